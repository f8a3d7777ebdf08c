"""Files for the system that dumps are saved on: a unit, a hook of kdump's, a configuration."""
