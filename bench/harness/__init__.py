"""What the scripts in bench/ and the soak test share: servers, load, clocks of processes, reports."""
