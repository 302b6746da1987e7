"""IoU against latency: a session of interleaved rounds on one or several devices, its records, and what they say.

`session` is the flow itself; `crew` holds the workers, `timing` the rounds, `accuracy` the masks, `results` the files
under ``bench/results``, `rows` the table, `self_test` the proof that the harness neither cries wolf nor sleeps.
"""
