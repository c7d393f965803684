"""What is written to the card, how much of it, and what is there when the power goes meanwhile."""

import shutil
import subprocess
import time

from conftest import CMDLINE, FILES, MENDED, ansible, job, on
from written import cuts, writes

DAY = 24 * 3600


def bytes_written():
    """Give what was written to the card since the machine started."""
    # https://docs.kernel.org/block/stat.html: the seventh number is sectors of 512 bytes.
    return int(on("pi").check_output("sync && cat /sys/block/vda/stat").split()[6]) * 512


def test_an_idle_worker_hardly_writes():
    begin, before = time.monotonic(), bytes_written()
    time.sleep(180)
    written = bytes_written() - before
    a_day = written / (time.monotonic() - begin) * DAY
    print(f"idle: {a_day / 1e6:.0f} MB a day")
    assert a_day < 1e9


def test_a_job_hardly_writes():
    before = bytes_written()
    run = job("asian-option", "--paths", "500000", "--output", "results/card")
    said = run.communicate(timeout=800)[1]
    assert run.returncode == 0, said
    written = bytes_written() - before
    print(f"a job: {written / 1e6:.2f} MB")
    assert written < 10e6


def test_the_card_boots_whatever_of_cmdline_txt_is_written(tmp_path):
    pi, image, log = on("pi"), FILES / "pi/reader.img", FILES / "pi/reader.log"
    options = pi.check_output("findmnt --noheadings --output OPTIONS /boot/firmware")
    mount = f"mount -o {options} /dev/vdb /mnt"
    pi.check_output(f"{mount} && echo '{CMDLINE}' >/mnt/cmdline.txt && cp /boot/firmware/*-data /mnt && umount /mnt")
    begin = len(writes(log))
    card = tmp_path / "card.img"
    shutil.copyfile(image, card)
    for state in ("present", "absent"):
        pi.check_output(mount)
        arguments = f"boot=/mnt record=/root/record.json state={state}"
        run = ansible("ansible", "pi", "--become", "-m", "raspberry_pi_cmdline", "-a", arguments)
        printed = run.communicate(timeout=600)[0]
        assert run.returncode == 0, printed
        pi.check_output("umount /mnt")
    found = [cmdline_after(cut, card) for cut in cuts(writes(log)[begin:])]
    print(f"{len(found)} cuts")
    assert set(found) == {f"{CMDLINE}\n", f"{MENDED}\n"}


def cmdline_after(cut, card):
    """Give what the firmware finds, which knows FAT and nothing of the system that wrote it."""
    with card.open("r+b") as file:
        under = []
        for write in cut:
            file.seek(write.offset)
            under.append((write.offset, file.read(len(write.data))))
            file.seek(write.offset)
            file.write(write.data)
        file.flush()
        shown = subprocess.run(["mtype", "-i", card, "::cmdline.txt"], capture_output=True, check=False, text=True)
        for offset, data in reversed(under):
            file.seek(offset)
            file.write(data)
    return shown.stdout if shown.returncode == 0 else shown.stderr
