"""One module for each kind of request; a kind is added by putting its handler here."""
