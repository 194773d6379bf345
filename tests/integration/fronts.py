# SPDX-License-Identifier: Apache-2.0
"""Web servers in front of one Stack, each with the files of conf/ that are shipped.

    nginx = Nginx(stack)          # nothing runs yet
    stack.add_front(nginx)        # started; stopped and looked at with the stack
    nginx.api(org.member)         # the same caller, through it

A front has two hosts, on ports of their own: `port` shows Hearth alone; `site_port` is a
host that exists already, with files of its own and Hearth under /hearth. Both
include our file, of which only the lines that a site is told to change are
changed; what the file's comment says that the server itself needs stands in the server's
configuration. `idle_s` shortens the idle timeouts.
"""
import grp
import os
import pathlib
import pwd
import re
import shutil

from harness import OUR_LINE, PATH, SANITIZERS, SOURCE, Api, App, Http, Program, free_port, program

BASE = "/hearth"
SITE_FILES = {"index.html": "the site's own page\n", "hearth.txt": "no path of Hearth's\n", "shop/list.txt": "one two\n"}


def web_user():
    """Apache does not serve as root: (user, group) that it shall be, None where we are not root ourselves."""
    if os.geteuid() != 0:
        return None
    for name in ("www-data", "apache", "nobody"):
        try:
            user = pwd.getpwnam(name)
            return user.pw_name, grp.getgrgid(user.pw_gid).gr_name
        except KeyError:
            continue
    raise AssertionError("no user for Apache")


class AppBelow(App):
    """hearth.fcgi with a base path, for the hosts that exist already."""

    name = "hearth.fcgi-below"

    def __init__(self, stack):
        super().__init__(stack)
        self.socket = stack.folder / "below.sock"
        self.conf = stack.folder / "hearth-below.conf"

    def command(self):
        self.stack.write_conf(self.conf, app={"socket": self.socket, "base_path": BASE})
        return [program("hearth.fcgi"), "--config", str(self.conf)]


class Front(Program):
    """What the servers have in common. The subclasses say how they are configured."""

    conf = None         # the file in conf/ that is included
    starts_it = False   # hearth.fcgi is started by the server
    idle_s = 360        # the server's idle timeouts, from the next start on

    def __init__(self, stack):
        super().__init__(stack)
        self.port, self.site_port = free_port(), free_port()
        self.http, self.site = Http(self.port), Http(self.site_port)
        self.folder = stack.folder / self.name
        self.folder.mkdir()
        for name, text in SITE_FILES.items():
            path = self.folder / "site" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (self.folder / "empty").mkdir()

    def api(self, api, http=None):
        return Api(http or self.http, api.token, api.org_id)

    # --- the configuration ---

    @property
    def shipped(self):
        return (SOURCE / "conf" / self.conf).read_text()

    def needs(self):
        """What the comment of our file says that the server itself needs."""
        return "\n".join(re.findall(r"(?m)^#\t(.*)$", self.shipped)) + "\n"

    def include(self, name, changes):
        """Our file with some lines changed; each pattern must be there just once."""
        text = re.sub(r"\b360(s?)\b", rf"{self.idle_s}\1", self.shipped)
        for pattern, line in changes:
            text, n = re.subn("(?m)" + pattern, lambda m: line, text)
            assert n == 1, (self.conf, pattern, n)
        path = self.folder / name
        path.write_text(text)
        return path

    def app_of(self, base):
        """The socket of the hearth.fcgi that serves the host."""
        return self.stack.below.socket if base else self.stack.app.socket

    def conf_of(self, base):
        """Where the server starts hearth.fcgi: that one's configuration, for the eyes of the server's user."""
        path = self.folder / f"hearth{base.replace('/', '-')}.conf"
        self.stack.write_conf(path, app={"socket": None, "base_path": base or None})
        return path

    def is_ready(self):
        try:
            return self.site.request("GET", "/", timeout=5).status == 200
        except OSError:
            return False

    def children(self):
        """The pids of the hearth.fcgi that it has started."""
        found = []
        for path in pathlib.Path("/proc").glob("[0-9]*/status"):
            try:
                # Its program or its configuration lies in our folder; its environment is not for everybody's eyes.
                if path.read_text().startswith("Name:\thearth.fcgi\n") and \
                        f"{self.folder}/" in (path.parent / "cmdline").read_text():
                    found.append(int(path.parent.name))
            except OSError:
                continue
        return found

    def is_bad_line(self, line):
        # What the processes that it has started write stands in its own log.
        m = OUR_LINE.match(line)
        return bool(m) and m.group(1) in ("warn", "error")


class LighttpdSocket(Front):
    name = "lighttpd-socket"
    is_exit_status_good = True  # ends with 1 on SIGTERM while a connection is open
    conf = "lighttpd-vhost.conf"

    def changes(self, base):
        return [(r"^var\.hearth_base\b.*$", f'var.hearth_base = "{base}"'),
                (r"^var\.hearth_socket\b.*$", f'var.hearth_socket = "{self.app_of(base)}"')]

    def command(self):
        (self.folder / "uploads").mkdir(exist_ok=True)
        root = self.include("root.conf", self.changes(""))
        below = self.include("below.conf", self.changes(BASE))
        conf = self.folder / "lighttpd.conf"
        conf.write_text(f"""
server.document-root = "{self.folder}/site"
server.bind = "127.0.0.1"
server.port = {self.site_port}
server.errorlog = "{self.log}"
server.upload-dirs = ( "{self.folder}/uploads" )
index-file.names = ( "index.html" )
{self.needs()}
$SERVER["socket"] == "127.0.0.1:{self.port}" {{
	server.document-root = "{self.folder}/empty"
	include "{root}"
}}
$SERVER["socket"] == "127.0.0.1:{self.site_port}" {{
	include "{below}"
}}
""")
        return ["lighttpd", "-D", "-f", str(conf)]


class LighttpdBinPath(LighttpdSocket):
    name = "lighttpd-bin-path"
    conf = "lighttpd-bin-path.conf"
    starts_it = True

    def changes(self, base):
        return [(r"^var\.hearth_base\b.*$", f'var.hearth_base = "{base}"'),
                (r"^var\.hearth_program\b.*$", f'var.hearth_program = "{program("hearth.fcgi")}"'),
                (r"^var\.hearth_config\b.*$", f'var.hearth_config = "{self.conf_of(base)}"'),
                (r"^var\.hearth_socket\b.*$", f'var.hearth_socket = "{self.folder}/app{base.replace("/", "-")}"')]


class Nginx(Front):
    name = "nginx"
    conf = "nginx.conf"

    def changes(self, base):
        return [(r"^location \^~ / \{$", f"location ^~ {base}/ {{"),
                (r"^\tfastcgi_pass .*$", f"\tfastcgi_pass unix:{self.app_of(base)};")]

    def command(self):
        temporary = "\n".join(f"\t{kind}_temp_path {self.folder}/{kind};"
                              for kind in ("client_body", "fastcgi", "proxy", "scgi", "uwsgi"))
        conf = self.folder / "host.conf"
        conf.write_text(f"""
{"user " + pwd.getpwuid(os.geteuid()).pw_name + ";" if os.geteuid() == 0 else ""}
daemon off;
pid {self.folder}/pid;
error_log {self.log} warn;
{self.needs()}
http {{
	access_log off;
{temporary}
	server {{
		listen 127.0.0.1:{self.port};
		root {self.folder}/empty;
		include {self.include("root.conf", self.changes(""))};
	}}
	server {{
		listen 127.0.0.1:{self.site_port};
		root {self.folder}/site;
		include {self.include("below.conf", self.changes(BASE))};
	}}
}}
""")
        return ["nginx", "-p", str(self.folder), "-c", str(conf), "-e", str(self.log)]


class Apache(Front):
    modules = ()

    def __init__(self, stack):
        super().__init__(stack)
        stack.folder.chmod(0o711)  # for Apache's user

    def changes(self, base):
        return [(r"^Define HEARTH_PATH .*$", f'Define HEARTH_PATH "{base}/"')]

    def more(self):
        return ""

    def command(self):
        modules = next(p for p in ("/usr/lib/apache2/modules", "/usr/lib64/httpd/modules") if os.path.isdir(p))
        user = "User {}\nGroup {}".format(*web_user()) if web_user() else ""
        load = "\n".join(f"LoadModule {m}_module {modules}/mod_{m}.so"
                         for m in ("mpm_event", "authz_core", "alias", "dir", "env", *self.modules))
        conf = self.folder / "host.conf"
        conf.write_text(f"""
ServerRoot {self.folder}
DefaultRuntimeDir {self.folder}
PidFile {self.folder}/pid
ServerName localhost
ErrorLog {self.log}
{load}
{user}
{self.needs()}
{self.more()}
Listen 127.0.0.1:{self.port}
Listen 127.0.0.1:{self.site_port}
<Directory />
	Require all denied
</Directory>
<VirtualHost 127.0.0.1:{self.port}>
	DocumentRoot {self.folder}/empty
	Include {self.include("root.conf", self.changes(""))}
</VirtualHost>
<VirtualHost 127.0.0.1:{self.site_port}>
	DocumentRoot {self.folder}/site
	DirectoryIndex index.html
	<Directory {self.folder}/site>
		Require all granted
	</Directory>
	Include {self.include("below.conf", self.changes(BASE))}
</VirtualHost>
""")
        return [shutil.which("apache2", path=PATH) or "httpd", "-DFOREGROUND", "-d", str(self.folder), "-f", str(conf)]


class ApacheProxyFcgi(Apache):
    name = "apache-proxy-fcgi"
    conf = "apache-proxy-fcgi.conf"
    modules = ("proxy", "proxy_fcgi")

    def changes(self, base):
        return [*super().changes(base),
                (r"^Define HEARTH_SOCKET .*$", f'Define HEARTH_SOCKET "{self.app_of(base)}"')]


class ApacheFcgid(Apache):
    name = "apache-fcgid"
    conf = "apache-fcgid.conf"
    starts_it = True
    modules = ("fcgid",)

    def __init__(self, stack):
        super().__init__(stack)
        # Apache's user need not be able to look into the build tree.
        self.program = self.folder / "hearth.fcgi"
        shutil.copy(program("hearth.fcgi"), self.program)

    def changes(self, base):
        return [*super().changes(base),
                (r"^Define HEARTH_PROGRAM .*$", f'Define HEARTH_PROGRAM "{self.program}"'),
                (r"^Define HEARTH_CONFIG .*$", f'Define HEARTH_CONFIG "{self.conf_of(base)}"')]

    def conf_of(self, base):
        path = super().conf_of(base)
        user = web_user()
        if user:
            for secret in [path, self.stack.key_ring(), *(self.stack.folder / "secret").glob("app-*")]:
                shutil.chown(secret, *user)
        return path

    def more(self):
        sockets = self.folder / "sockets"
        sockets.mkdir(exist_ok=True)
        if web_user():
            shutil.chown(sockets, *web_user())
        return "\n".join([f"FcgidIPCDir {sockets}", f"FcgidProcessTableFile {self.folder}/processes",
                          *(f'FcgidInitialEnv {k} "{v}"' for k, v in SANITIZERS.items())])


FRONTS = (LighttpdSocket, LighttpdBinPath, ApacheProxyFcgi, ApacheFcgid, Nginx)
