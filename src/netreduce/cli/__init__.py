"""The command line (`app`), and how scripts end (`exits`)."""
