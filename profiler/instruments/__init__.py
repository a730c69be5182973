"""The instruments of all kinds of run: hardware counters, power, traces, clocks, and helpers."""
