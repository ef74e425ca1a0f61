"""Reads user data with cloud-init's own code, the way its boot stages do.

usage: cloud_init.py USER_DATA FOLDER

Writes FOLDER/document (what the cloud-config handler gets), FOLDER/root/... (write_files, owners
replaced by whoever runs this), FOLDER/bootcmd and FOLDER/runcmd (the shell scripts), and
FOLDER/files.json (path, permissions, owner, defer as parsed).
"""
import grp
import json
import os
import pwd
import sys

from cloudinit import helpers, user_data, util
from cloudinit.config import cc_write_files

source, folder = sys.argv[1:]
with open(source, "rb") as file:
    raw = file.read()
paths = helpers.Paths({"cloud_dir": folder, "run_dir": folder})
message = user_data.UserDataProcessor(paths).process(raw)
parts = [part for part in message.walk() if part.get_content_maintype() != "multipart"]
assert [part.get_content_type() for part in parts] == ["text/cloud-config"], parts
payload = util.fully_decoded_payload(parts[0])
with open(os.path.join(folder, "document"), "wb") as file:
    file.write(util.encode_text(payload))

config = util.load_yaml(payload)
assert isinstance(config, dict), config
for key in ("bootcmd", "runcmd"):
    with open(os.path.join(folder, key), "wb") as file:
        file.write(util.encode_text(util.shellify(config[key])))
files = config.get("write_files", [])
for entry in files:
    assert all(isinstance(value, (str, bool)) for value in entry.values()), entry
with open(os.path.join(folder, "files.json"), "w") as file:
    shown = ("path", "permissions", "owner", "defer")
    json.dump([{key: entry.get(key) for key in shown} for entry in files], file)

me = pwd.getpwuid(os.geteuid()).pw_name + ":" + grp.getgrgid(os.getegid()).gr_name
root = os.path.join(folder, "root")
here = [dict(entry, path=root + entry["path"], owner=me) for entry in files]
cc_write_files.write_files("write-files", here, me)
