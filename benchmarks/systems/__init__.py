"""The same experiment written with dal and with other libraries, one file a library."""
