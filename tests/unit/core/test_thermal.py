"""What Android's thermal service prints."""

from edgeseg.core import thermal
from edgeseg.devices._standin_phone import THROTTLING, TOLD

NEWER = """IsStatusOverride: false
Thermal Status: 2
Cached temperatures:
	Temperature{mValue=99.0, mType=0, mName=CPU0, mStatus=0}
HAL Ready: true
HAL connection:
	ThermalHAL AIDL 1 connected: yes
Current temperatures from HAL:
	Temperature{mValue=71.5, mType=0, mName=CPU-LITTLE, mStatus=1}
	Temperature{mValue=78.25, mType=0, mName=CPU-BIG, mStatus=2}
	Temperature{mValue=88.0, mType=1, mName=GPU, mStatus=2}
Current cooling devices from HAL:
	CoolingDevice{mValue=3, mType=2, mName=thermal-cpufreq-0}
"""


def test_status_and_the_hottest_core_of_now():
    found = thermal.parse(NEWER)
    assert found == thermal.Thermal(2, 78.25)
    assert found.words == "moderate"
    assert thermal.parse(TOLD[THROTTLING]) == thermal.Thermal(0, 43.2)


def test_what_is_not_told_is_none():
    assert thermal.parse("Can't find service: thermalservice") == thermal.Thermal(None, None)
    assert thermal.Thermal(None, None).words == ""
    assert thermal.Thermal(9, None).words == "9"
