"""Hardware counters, power, traces, clocks and spread: the instruments of all runs."""
