"""The science: arrays and tables in, result out. No I/O, no SQL, no HTTP, no clock."""
