"""What every layer may use: errors, records, plug-in discovery. Imports nothing else of edgeseg.

The modules here also travel to the device inside the worker, so they keep to Python 3.9 and the standard library
(plus numpy where an array is meant).
"""
