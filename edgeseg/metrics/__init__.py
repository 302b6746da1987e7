"""How good a mask is, and how like another one: IoU, boundary IoU, connectivity, agreement.

Masks travel, measures do not: a device sends its masks back and all of this runs on the host, with numpy and OpenCV.
"""
