"""Any browser on the network: phones, tablets and laptops that open our page, with nothing installed on them.

They are not reached; they arrive. So this device has a `Reception` in place of a `DEVICE`: it serves the page, and each
page on which somebody taps Start becomes a `Phone`, a device like any other. The page, in `page/`, is the worker: it
takes the same job and commands and answers the same records.
"""

from __future__ import annotations

from edgeseg.devices.browser.phone import Phone
from edgeseg.devices.browser.reception import Invitation, Reception, Shown

RECEPTION = Reception

__all__ = ["RECEPTION", "Invitation", "Phone", "Reception", "Shown"]
