"""A folder of studies: discovery, journal, run, report."""
