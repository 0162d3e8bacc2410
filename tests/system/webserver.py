# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""nginx in a network namespace, as its package has it, with a configuration of four lines."""

import pathlib
import shutil
import socket
import subprocess
import time

NGINX = shutil.which("nginx") or "/usr/local/lib/towpath-test/nginx"
CONFIG = """daemon off; master_process off; pid {dir}/nginx.pid; error_log {dir}/error.log;
events {{ worker_connections 8192; }}
http {{ access_log off; keepalive_requests 100000000; client_body_temp_path {dir}/body;
proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
server {{ {listen} location / {{ return 200 "hello\\n"; }} }} }}
"""


def start(netns, folder, *ports, core=None):
    """The process, once it listens."""
    folder = pathlib.Path(folder)
    listen = " ".join(f"listen {port} backlog=4096; listen [::]:{port};" for port in ports)
    (folder / "nginx.conf").write_text(CONFIG.format(dir=folder, listen=listen))
    pin = () if core is None else ("taskset", "-c", core)
    process = netns.popen(
        *pin, NGINX, "-e", folder / "error.log", "-c", folder / "nginx.conf",
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    end = time.monotonic() + 10
    while time.monotonic() < end:
        with netns.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
            if client.connect_ex(("127.0.0.1", ports[0])) == 0:
                return process
        if process.poll() is not None:
            break
        time.sleep(0.02)
    process.kill()
    raise RuntimeError(f"nginx does not listen: {(folder / 'error.log').read_text()}")
