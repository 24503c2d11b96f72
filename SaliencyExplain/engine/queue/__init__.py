"""Jobs on a device: waiting, computed, cancelled."""
