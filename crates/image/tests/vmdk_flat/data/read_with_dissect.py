"""Compares a VMDK, as dissect.hypervisor reads it, with a raw file: python read_with_dissect.py VMDK RAW"""
import sys
from pathlib import Path

from dissect.hypervisor.disk.vmdk import VMDK

STEP = 2048

disk = VMDK(Path(sys.argv[1]))
with open(sys.argv[2], "rb") as raw:
    for sector in range(0, disk.sector_count, STEP):
        read = disk.read_sectors(sector, min(STEP, disk.sector_count - sector))
        if read != raw.read(len(read)):
            sys.exit(f"differs within {STEP} sectors from {sector}")
    if raw.read(1):
        sys.exit("the disk is shorter than the raw file")
