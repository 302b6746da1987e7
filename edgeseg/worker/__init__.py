"""What runs on the device: a job and commands in, records out, with numpy and one runtime as its only needs.

The worker travels as a zipapp (`pack`) and keeps to Python 3.9. It imports a runtime only when it loads an item of
that runtime, so that one process knows one runtime.
"""
