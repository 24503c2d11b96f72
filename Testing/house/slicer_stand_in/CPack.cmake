# Slicer's own file packs what was installed; nothing here needs that.
