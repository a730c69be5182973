"""What one step of a model costs: operators, their totals, and memory, time and energy on a GPU.

    model, step --operators--> operators --totals--> FLOPs, bytes, parameters, KV cache, routing
                                   |                     |
                                   +----------+----------+
                                              |
                    hardware  --footprint-->  bytes resident, largest batch
                    hardware  --roofline--->  a bound on the time
      backend, calibration    --latency---->  the predicted time and energy

`predict.py` does all of this in order. `gpu.py` holds the hardware with its calibration, which
`calibrations.py` finds and `kernel_times.py` reads; `columns.py` names the results as the JSON
does, and `quantities` says what each name means.
"""
