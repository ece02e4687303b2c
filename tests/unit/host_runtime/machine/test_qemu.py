"""The command line of QEMU, word for word: a change of it should be seen in review."""

from dataclasses import replace
from pathlib import Path

import pytest

from host_runtime.machine.qemu import (
    Accelerator,
    DirectBoot,
    Disk,
    EspBoot,
    Firmware,
    GuestForward,
    HostForward,
    KernelVsock,
    MachineConfig,
    SinkFiles,
    TapNetwork,
    UserNetwork,
    UserVsock,
    plan_command,
)

SINKS = SinkFiles(
    serial=Path("o/serial"),
    console=Path("o/console"),
    debugcon=Path("o/debugcon"),
    firmware_debug=Path("o/firmware"),
    network=Path("o/pcap"),
    error_records=Path("o/records"),
)
DIRECT = MachineConfig(
    memory_mib=512,
    vcpus=1,
    accelerator=Accelerator.TCG,
    boot=DirectBoot(kernel=Path("k"), initrd=Path("i"), command_line="quiet a=b"),
    qmp_socket=Path("s/qmp"),
    sinks=SINKS,
    vsock=KernelVsock(guest_cid=9),
    data_folders=(Path("share"),),
)
FULL = replace(
    DIRECT,
    memory_mib=1024,
    vcpus=2,
    accelerator=Accelerator.KVM,
    boot=EspBoot(image=Path("esp,1.img")),
    firmware=Firmware(code=Path("CODE.fd"), variables=Path("VARS.fd")),
    disks=(
        Disk(path=Path("root"), serial="root", is_read_only=True),
        Disk(path=Path("scratch"), serial="scratch"),
    ),
    network=UserNetwork(
        host_forwards=(HostForward(host_port=8443, guest_port=443),),
        guest_forwards=(GuestForward(address="10.0.2.100", port=80, command=("fwd", "a,b")),),
    ),
    tpm_socket=Path("s/tpm"),
    vsock=UserVsock(socket=Path("s/vhost")),
)
SINK_WORDS = """
-chardev file,id=serial,path=o/serial -device isa-serial,chardev=serial
-chardev file,id=console,path=o/console -device virtio-serial-pci,max_ports=2
-device virtconsole,chardev=console
-chardev file,id=debugcon,path=o/debugcon -device isa-debugcon,iobase=0xe9,chardev=debugcon
-chardev file,id=firmware-debug,path=o/firmware
-device isa-debugcon,iobase=0x402,readback=0,chardev=firmware-debug
-device pvpanic -device pvpanic-pci
"""
ERROR_RECORD_WORDS = """
-object memory-backend-file,id=error-records,size=64K,mem-path=o/records,share=on
-device acpi-erst,memdev=error-records
"""
DIRECT_WORDS = """
-name ccinit-guest -no-user-config -nodefaults -display none -L share
-sandbox on,elevateprivileges=deny,spawn=deny
-machine q35,memory-backend=memory,vmport=off -accel tcg
-cpu max,-erms,-fsrm,-fsrs -smp 1 -m 512M
-object memory-backend-memfd,id=memory,size=512M,share=on -no-reboot -S
-chardev socket,id=qmp,path=s/qmp,server=on,wait=off -qmp chardev:qmp
-kernel k -initrd i -append
"""
FULL_MACHINE_WORDS = """
-name ccinit-guest -no-user-config -nodefaults -display none -L share
-sandbox on
-machine q35,memory-backend=memory,vmport=off,pflash0=firmware,pflash1=variables
-accel kvm -cpu host -smp 2 -m 1024M
-object memory-backend-memfd,id=memory,size=1024M,share=on -no-reboot -S
-chardev socket,id=qmp,path=s/qmp,server=on,wait=off -qmp chardev:qmp
-blockdev driver=raw,node-name=firmware,read-only=on,file.driver=file,file.filename=CODE.fd
-blockdev driver=raw,node-name=variables,read-only=off,file.driver=file,file.filename=VARS.fd
-blockdev driver=raw,node-name=esp,read-only=on,file.driver=file,file.filename=esp,,1.img
-device virtio-scsi-pci,id=scsi
-device scsi-hd,drive=esp,bus=scsi.0,bootindex=0
"""
FULL_DISK_WORDS = """
-blockdev driver=raw,node-name=disk0,read-only=on,file.driver=file,file.filename=root
-device virtio-blk-pci,drive=disk0,serial=root,werror=report,rerror=report
-blockdev driver=raw,node-name=disk1,read-only=off,file.driver=file,file.filename=scratch
-device virtio-blk-pci,drive=disk1,serial=scratch,werror=report,rerror=report
-netdev
"""
FULL_NETWORK = (
    "user,id=net,ipv6=off,restrict=on,hostfwd=tcp:127.0.0.1:8443-:443,"
    "guestfwd=tcp:10.0.2.100:80-cmd:fwd a,,b"
)
FULL_LAST_WORDS = """
-device virtio-net-pci,netdev=net,mac=52:54:00:cc:00:01,romfile=
-object filter-dump,id=dump,netdev=net,file=o/pcap,maxlen=262144
-chardev socket,id=tpm,path=s/tpm -tpmdev emulator,id=tpm,chardev=tpm
-device tpm-crb,tpmdev=tpm
-chardev socket,id=vsock,path=s/vhost -device vhost-user-vsock-pci,chardev=vsock
"""


def test_block_device_is_opened_as_one() -> None:
    device = Disk(path=Path("/dev/vg/scratch"), serial="scratch", is_device=True)
    file = replace(device, is_device=False)
    words = [
        set(plan_command(replace(DIRECT, disks=(disk,)))) - set(plan_command(DIRECT))
        for disk in (device, file)
    ]
    node = "driver=raw,node-name=disk0,read-only=off,file.driver={},file.filename=/dev/vg/scratch"
    assert node.format("host_device") in words[0] - words[1]
    assert node.format("file") in words[1] - words[0]


def test_direct_boot_plan_is_unchanged() -> None:
    vsock = ("-device", "vhost-vsock-pci,guest-cid=9")
    devices = (*SINK_WORDS.split(), *vsock, *ERROR_RECORD_WORDS.split())
    expected = (*DIRECT_WORDS.split(), "quiet a=b", *devices)
    assert plan_command(DIRECT) == expected


def test_full_plan_is_unchanged() -> None:
    assert plan_command(FULL) == (
        *FULL_MACHINE_WORDS.split(),
        *SINK_WORDS.split(),
        *FULL_DISK_WORDS.split(),
        FULL_NETWORK,
        *FULL_LAST_WORDS.split(),
        *ERROR_RECORD_WORDS.split(),
    )


def test_output_that_is_discarded_goes_to_the_same_devices_and_nowhere() -> None:
    kept, discarded = plan_command(FULL), plan_command(replace(FULL, sinks=None))
    words = ("serial", "console", "debugcon", "firmware-debug")
    assert [word for word in discarded if word not in kept] == [
        *(f"null,id={name}" for name in words),
        "memory-backend-ram,id=error-records,size=64K",
    ]
    assert [word for word in kept if word not in discarded] == [
        *("file,id=serial,path=o/serial", "file,id=console,path=o/console"),
        *("file,id=debugcon,path=o/debugcon", "file,id=firmware-debug,path=o/firmware"),
        "filter-dump,id=dump,netdev=net,file=o/pcap,maxlen=262144",
        "memory-backend-file,id=error-records,size=64K,mem-path=o/records,share=on",
    ]


def test_comma_in_a_name_is_no_further_option() -> None:
    disk = Disk(path=Path("a,b.img"), serial="a,readonly=on")
    command = plan_command(replace(DIRECT, disks=(disk,), serial_number="1,uuid=2"))
    (device,) = (word for word in command if word.startswith("virtio-blk-pci,"))
    assert device.startswith("virtio-blk-pci,drive=disk0,serial=a,,readonly=on,werror=")
    assert any(word.endswith("file.filename=a,,b.img") for word in command)
    assert command[command.index("-smbios") + 1] == "type=1,serial=1,,uuid=2"


def test_serial_number_is_in_the_table_of_the_machine() -> None:
    command = plan_command(replace(DIRECT, serial_number="abc"))
    assert command[command.index("-smbios") + 1] == "type=1,serial=abc"
    assert "-smbios" not in plan_command(DIRECT)


def test_open_network_is_not_restricted() -> None:
    words = plan_command(replace(DIRECT, network=UserNetwork(is_restricted=False)))
    assert "user,id=net,ipv6=off,restrict=off" in words


def test_tap_is_made_by_qemu_and_set_up_by_no_script() -> None:
    tap = TapNetwork(mac="02:00:00:00:00:01", name="ccinit0")
    words = plan_command(replace(DIRECT, network=tap))
    assert "tap,id=net,ifname=ccinit0,script=no,downscript=no" in words
    assert "virtio-net-pci,netdev=net,mac=02:00:00:00:00:01,romfile=" in words


def test_uki_without_firmware_is_a_bug() -> None:
    with pytest.raises(ValueError, match="firmware"):
        plan_command(replace(FULL, firmware=None))
