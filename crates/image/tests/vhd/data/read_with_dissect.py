"""Compares a VHD or VHDX, as dissect.hypervisor reads it, with a raw file: python read_with_dissect.py IMAGE RAW"""
import sys

from dissect.hypervisor.disk.vhd import VHD
from dissect.hypervisor.disk.vhdx import VHDX

STEP = 1 << 20

reader = VHDX if sys.argv[1].endswith("x") else VHD
with open(sys.argv[1], "rb") as image, open(sys.argv[2], "rb") as raw:
    disk = reader(image)
    at = 0
    while expected := raw.read(STEP):
        if disk.read(len(expected)) != expected:
            sys.exit(f"differs within {STEP} bytes from {at}")
        at += len(expected)
    if disk.read(1):
        sys.exit("the disk is longer than the raw file")
