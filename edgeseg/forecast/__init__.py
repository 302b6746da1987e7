"""How long an artifact would take on a board that nobody has measured: a forecast, never a measurement.

`edgeseg.core.backend.Work` says what an artifact asks of a processor, `boards` what a processor can give, `roofline` puts the
two together, `interval` says how far off that may be, and narrows it by measurements of the board.
"""
