"""Runs in the Windows Python: ``places.py SAMPLE FOLDER``; prints what the tool says of odd places.

One JSON object: name -> [exit code, what was printed].
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import os
import shutil
import sys

from analyzer import cli


def told(*arguments: str, encoding: str = "utf-8") -> list[object]:
    """Exit code and print of a command, on a console of this code page."""
    printed = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="")
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        code = cli.main(list(arguments))
    printed.flush()
    return [code, printed.buffer.getvalue().decode(encoding)]  # type: ignore[attr-defined]


def main(sample: str, folder: str) -> None:
    """Tries each place."""
    name = os.path.basename(sample)
    found = {"plain": told("info", sample)}
    os.chdir(folder)
    drive = sample[0]
    found["other drive letter case"] = told("info", drive.lower() + sample[1:])
    found["slashes"] = told("info", sample.replace("\\", "/"))
    found["wildcard"] = told("info", os.path.join(os.path.dirname(sample), "healthy-x64-k*.dmp"))
    found["device path"] = told("info", "\\\\?\\" + sample)
    deep = "\\\\?\\" + os.path.join(os.path.abspath(folder), *["d" * 60] * 5)
    os.makedirs(deep)
    shutil.copy(sample, os.path.join(deep, name))
    found["long path"] = told("info", os.path.join(deep, name))
    cyrillic = os.path.join(folder, "\u0434\u0430\u043c\u043f.dmp")
    shutil.copy(sample, cyrillic)
    found["cyrillic"] = told("info", cyrillic)
    found["code page 437"] = told("info", cyrillic, encoding="cp437")
    found["NUL"] = told("info", "NUL")
    found["nothing there"] = told("info", "Z:\\no\\such.dmp")
    held = os.path.join(folder, "held.dmp")
    shutil.copy(sample, held)
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    kernel.CreateFileW.restype = ctypes.c_void_p
    shared = kernel.CreateFileW(held, 0x80000000, 7, None, 3, 0, None)  # others may do all
    found["held open, shared"] = told("info", held)
    mapping = kernel.CreateFileMappingW(ctypes.c_void_p(shared), None, 2, 0, 0, None)
    found["mapped"] = told("info", held)
    kernel.CloseHandle(ctypes.c_void_p(mapping))
    kernel.CloseHandle(ctypes.c_void_p(shared))
    alone = kernel.CreateFileW(held, 0xC0000000, 0, None, 3, 0, None)  # nobody else may
    found["held open, alone"] = told("info", held)
    kernel.CloseHandle(ctypes.c_void_p(alone))
    output = os.path.join(folder, "out.txt")
    found["output"] = told("analyze", sample, "--output", output)
    with open(output, "rb") as file:
        found["written"] = [0, file.read().decode("utf-8")]
    found["output to NUL"] = told("analyze", sample, "--output", "NUL")
    found["output over an input"] = told("analyze", held, "--output", held.upper())
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
