"""The name a receipt gives a model, as documented in cuckoo-miner/src/model/folder.rs."""

import hashlib


def model_hash(folder, names=None):
    """Over the files `names` of a folder, all of them unless named."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    files = {path.relative_to(folder).as_posix(): path for path in files}
    return digest_of({name: files[name] for name in names or files})


def digest_of(files):
    """Over files by the names that count."""
    digest = hashlib.sha256(b"cuckoo model 1\n")
    for name in sorted(files):
        content = files[name].read_bytes()
        digest.update(len(name).to_bytes(8, "little") + name.encode())
        digest.update(len(content).to_bytes(8, "little") + hashlib.sha256(content).digest())
    return digest.hexdigest()
