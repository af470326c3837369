"""Job libraries and a cache through dfly, as their users run them: real worker processes, killed at random."""
