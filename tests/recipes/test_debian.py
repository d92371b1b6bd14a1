"""Debian packages without root, with scripts in the place of apt and dpkg."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "recipes" / "corpora"))

import debian

from trimbre.errors import UserError

APT_GET = """#!/bin/sh
echo "$@" >> "$LOG"
while [ $# -gt 0 ]; do
  case "$1" in
    download) downloading=yes ;;
    -*|update) ;;
    *unknown) echo "Reading lists" ; echo "E: Unable to locate package $1" >&2; exit 100 ;;
    *absent) ;;
    *) [ -z "$downloading" ] || echo "$1" > "$1"_1.0_all.deb ;;
  esac
  shift
done
"""
DPKG = """#!/bin/sh
PATH=/bin:/usr/bin
read package < "$2"
case "$package" in *damaged) echo "dpkg-deb: error: no control file" >&2; exit 2 ;; esac
mkdir -p "$3/usr/bin" "$3/usr/lib/private" "$3/usr/share"
echo "#!/bin/sh" > "$3/usr/bin/$package"
[ "$package" != limping ] || cat > "$3/usr/bin/$package" <<END
#!/bin/sh
echo "$package: error while loading shared libraries: libleg-16.1.so: cannot open shared object file" >&2
exit 127
END
chmod +x "$3/usr/bin/$package"
touch "$3/usr/lib/$package.so.1" "$3/usr/lib/private/$package-16.1.so" "$3/usr/share/$package.solution"
"""
APT_CACHE = """#!/bin/sh
echo speaker
echo "  Depends: libspeech"
echo "  Depends: <virtual>"
echo libspeech
echo libc6
echo "<virtual>"
"""


@pytest.fixture
def log(tmp_path, monkeypatch) -> Path:
    """What apt-get was asked, a line a call; PATH holds nothing but the scripts."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, script in {"apt-get": APT_GET, "dpkg-deb": DPKG, "apt-cache": APT_CACHE}.items():
        (tools / name).write_text(script)
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    monkeypatch.setenv("TRIMBRE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "log"


def without_apt(monkeypatch) -> None:
    monkeypatch.setenv("PATH", "")


def test_packages_are_unpacked_once_into_folders_of_their_own(log, tmp_path, monkeypatch):
    folders = debian.fetch(["one", "two"])
    assert folders == [tmp_path / "cache/debian/one", tmp_path / "cache/debian/two"]
    assert [(folder / "usr/bin" / folder.name).is_file() for folder in folders] == [True, True]
    assert not list(tmp_path.rglob("*.deb"))
    calls = log.read_text().splitlines()
    assert [call.split()[-3:] for call in calls][1:] == [["download", "one", "two"]]
    # The system's lists and caches, which only root may write, are not touched.
    assert all(f"Dir::State::Lists={tmp_path / 'cache/debian/.apt/lists'}" in call for call in calls)
    without_apt(monkeypatch)
    assert debian.fetch(["two", "one"]) == folders[::-1]
    assert log.read_text().splitlines() == calls


@pytest.mark.parametrize(
    ("package", "complaint"),
    [
        ("unknown", "cannot fetch the packages one, unknown: E: Unable to locate package unknown"),
        ("absent", "cannot fetch the package absent: apt-get brought no .deb file"),
        ("damaged", "cannot unpack the package damaged: dpkg-deb: error: no control file"),
    ],
)
def test_a_package_that_cannot_be_had_is_named_and_not_half_there(log, tmp_path, package, complaint):
    with pytest.raises(UserError) as refused:
        debian.fetch(["one", package])
    assert str(refused.value) == complaint
    left = sorted(path.name for path in (tmp_path / "cache/debian").iterdir())
    assert left == ([".apt"] if package == "unknown" else [".apt", "one"])


def test_lists_that_cannot_be_read(log, tmp_path):
    (tmp_path / "tools/apt-get").write_text("#!/bin/sh\necho 'E: no network' >&2\nexit 100\n")
    with pytest.raises(UserError, match=r"^cannot read the package lists for one: E: no network$"):
        debian.fetch(["one"])


@pytest.mark.parametrize("tool", ["apt-get", "dpkg-deb"])
def test_a_machine_without_apt(log, tmp_path, tool):
    (tmp_path / "tools" / tool).unlink()
    with pytest.raises(UserError, match=f"^no {tool} on this machine, which would fetch one: use a Debian or Ubuntu"):
        debian.fetch(["one"])
    assert not (tmp_path / "cache").exists()


def test_a_program_comes_with_its_libraries_and_is_found_again_without_apt(log, tmp_path, monkeypatch):
    assert debian.fetched_program("speaker") is None
    program = debian.fetch_program("speaker", trial=["--version"])
    assert program.path == str(tmp_path / "cache/debian/speaker/usr/bin/speaker")
    # Every folder of shared objects, whatever their names and however deep; none that holds none.
    homes = [tmp_path / "cache/debian" / name / "usr/lib" for name in ("speaker", "libspeech")]
    found = program.environment["LD_LIBRARY_PATH"].split(":")
    assert found == [str(place) for home in homes for place in (home, home / "private")]
    # The C library of another system would break the program.
    assert not (tmp_path / "cache/debian/libc6").exists()
    without_apt(monkeypatch)
    again = debian.fetched_program("speaker")
    assert again == debian.fetch_program("speaker", trial=["--version"])
    assert again is not None
    assert again.environment["LD_LIBRARY_PATH"] == program.environment["LD_LIBRARY_PATH"]


def test_a_program_that_does_not_run_is_refused_with_what_is_missing(log, tmp_path):
    (tmp_path / "tools/apt-cache").write_text("#!/bin/sh\necho limping\necho libspeech\n")
    with pytest.raises(UserError, match=r"limping was fetched but does not run: .* 127: .*libleg-16\.1\.so"):
        debian.fetch_program("limping", trial=["--version"])
    assert debian.fetched_program("limping") is None


def test_a_program_that_fails_says_why(tmp_path):
    script = tmp_path / "speaker"
    script.write_text('#!/bin/sh\nread text\necho "saying $text"\necho one >&2\necho "no voice $1" >&2\nexit $2\n')
    program = debian.Program(str(script), os.environ)
    with pytest.raises(UserError, match="speaker cannot be started: Permission denied"):
        program.run([])
    script.chmod(0o755)
    assert program.run(["x", "0"], "hello\n") == b"saying hello\n"
    with pytest.raises(UserError, match="speaker ended with exit status 3: no voice x"):
        program.run(["x", "3"])


def test_a_program_whose_libraries_did_not_come_is_not_taken_for_whole(log, tmp_path):
    (tmp_path / "tools/apt-cache").write_text("#!/bin/sh\necho speaker\necho libunknown\n")
    with pytest.raises(UserError, match="cannot fetch the package libunknown"):
        debian.fetch_program("speaker", trial=["--version"])
    assert debian.fetched_program("speaker") is None
    (tmp_path / "tools/apt-cache").write_text(APT_CACHE)
    assert debian.fetch_program("speaker", trial=["--version"]) == debian.fetched_program("speaker")


def test_a_package_that_holds_no_program_of_its_name(log, tmp_path):
    (tmp_path / "cache/debian/speaker/usr").mkdir(parents=True)
    with pytest.raises(UserError, match="the package speaker holds no program of that name"):
        debian.fetch_program("speaker", trial=["--version"])


def test_the_cache_is_where_the_user_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRIMBRE_CACHE", "here")
    assert debian.cache_folder() == tmp_path / "here"
    monkeypatch.delenv("TRIMBRE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert debian.cache_folder() == tmp_path / "xdg" / "trimbre"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", "")  # the same as unset, says its specification
    assert debian.cache_folder() == tmp_path / "home/.cache/trimbre"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert debian.cache_folder() == tmp_path / "home/.cache/trimbre"


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="no dpkg-deb on this machine")
def test_a_real_archive_is_unpacked(log, tmp_path, monkeypatch):
    root = tmp_path / "root"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "usr/share").mkdir(parents=True)
    (root / "usr/share/hello").write_text("hello")
    control = "Package: hello\nVersion: 1\nArchitecture: all\nMaintainer: me <me@example.org>\nDescription: hello\n"
    (root / "DEBIAN/control").write_text(control)
    monkeypatch.setenv("PATH", f"{os.defpath}:/usr/sbin:/sbin")
    archive = tmp_path / "hello.deb"
    subprocess.run(["dpkg-deb", "--build", str(root), str(archive)], check=True, capture_output=True)
    (tmp_path / "tools/dpkg-deb").unlink()
    fetching = f'case "$*" in *download*) cp {archive} hello_1_all.deb ;; esac'
    (tmp_path / "tools/apt-get").write_text(f"#!/bin/sh\n{fetching}\n")
    monkeypatch.setenv("PATH", f"{tmp_path / 'tools'}:{os.environ['PATH']}")
    (folder,) = debian.fetch(["hello"])
    assert (folder / "usr/share/hello").read_text() == "hello"
