"""What libraries say about their rights reaches the copyright file."""

from __future__ import annotations

import json

from package.copyright import copyright_file
from tests.package.parts import make_wheel


def test_every_licence_is_in_it(tmp_path):
    parts = {
        "components": [
            {"name": "crate", "version": "2.1", "licenses": [{"expression": "MIT OR Apache-2.0"}]},
            {"name": "other", "version": "3", "licenses": [{"license": {"id": "Zlib"}}]},
        ]
    }
    wheels = [
        make_wheel(
            tmp_path,
            "one",
            head="License-Expression: MIT\nProject-URL: Homepage, https://one.example\n",
            files={"@/licenses/LICENSE": "\nCopyright (c) One\n", "@/sboms/one.cyclonedx.json": json.dumps(parts)},
        ),
        make_wheel(
            tmp_path,
            "two",
            head="Classifier: License :: OSI Approved :: BSD License\n",
            files={"@/LICENSE.APACHE2": "  Apache License\n  Version 2.0\n", "two/LICENSE.py": "not a licence"},
        ),
    ]
    text = copyright_file(tmp_path / wheel.file for wheel in wheels)
    assert "  one 1.0: MIT\n  two 1.0: BSD License\n" in text
    assert "one 1.0\nhttps://one.example\nLicence: MIT\n\nCopyright (c) One\n" in text
    assert "  crate 2.1: MIT OR Apache-2.0\n  other 3: Zlib\n" in text
    assert "/usr/share/common-licenses/Apache-2.0" in text
    assert "Version 2.0" not in text
    assert "not a licence" not in text


def test_a_library_for_several_pythons_is_told_once(tmp_path):
    for tags in ("cp311-cp311-manylinux_2_17_x86_64", "cp313-cp313-manylinux_2_17_x86_64"):
        make_wheel(tmp_path, "one", tags, head="License: MIT\n")
    assert copyright_file(tmp_path.glob("*.whl")).count("\none 1.0\n") == 1
