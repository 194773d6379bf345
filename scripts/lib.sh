# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh disable=SC2034,SC2154
# What scripts/quickstart and scripts/check share: the package lists, the build,
# starting and stopping of programs. Sourced with $top set to the source tree.

# Debian's names. The libraries are also named by configure where one is missing.
PACKAGES_BUILD="gcc libc6-dev make autoconf automake pkg-config libfcgi-dev libjson-c-dev libmariadb-dev
	libnats-dev libuv1-dev libsodium-dev libinih-dev libcurl4-openssl-dev libgmp-dev uthash-dev libcunit1-dev"
PACKAGES_RUN="mariadb-server nats-server lighttpd curl"
PACKAGES_BENCH="wrk nginx-light"
PACKAGES_TEST="$PACKAGES_BENCH ca-certificates nodejs openssl python3 python3-jsonschema python3-pytest python3-yaml apache2 libapache2-mod-fcgid spin"
# For make fuzz; no test needs them.
PACKAGES_FUZZ="clang libclang-rt-14-dev"

# mariadbd, nats-server and the web servers are in /usr/sbin, which is not on everybody's path.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
LC_ALL=C
export PATH LC_ALL

say()
{
	printf '%s\n' "$*"
}

die()
{
	printf '%s\n' "${0##*/}: $*" >&2
	exit 1
}

is_installed()
{
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# missing_packages PACKAGE...: prints those that are not installed, in one line.
missing_packages()
{
	missing=
	for package in "$@"; do
		is_installed "$package" || missing="$missing $package"
	done
	printf '%s' "${missing# }"
}

# need_packages yes|no PACKAGE...: names what is missing and, on yes, installs it.
need_packages()
{
	may_install=$1
	shift
	if ! command -v dpkg-query >/dev/null 2>&1; then
		say "This is no Debian: needed are what Debian calls $*"
		return 0
	fi
	missing=$(missing_packages "$@")
	if [ -z "$missing" ]; then
		say "Debian packages: all there."
		return 0
	fi
	say "Debian packages that are missing: $missing"
	[ "$may_install" = yes ] || die "nothing was installed, as asked; install them and start again"
	if [ "$(id -u)" = 0 ]; then
		# shellcheck disable=SC2086
		"$top/scripts/install-packages" $missing || die "the packages could not be installed"
	elif command -v sudo >/dev/null 2>&1; then
		# shellcheck disable=SC2086
		sudo "$top/scripts/install-packages" $missing || die "the packages could not be installed"
	else
		die "not root and no sudo: ask for them with: apt-get install --no-install-recommends $missing"
	fi
}

# quietly LOG COMMAND...: the output goes to the log, its end is shown on failure.
quietly()
{
	log=$1
	shift
	if "$@" >>"$log" 2>&1; then
		return 0
	fi
	tail -n 40 "$log" >&2
	die "this failed: $* (all of it: $log)"
}

# A tree that was configured in place cannot be built elsewhere too: a clean copy of it can.
choose_source()
{
	source=$top
	[ -f "$top/config.status" ] || return 0
	source=$top/.build/source
	rm -rf "$source"
	mkdir -p "$source"
	(cd "$top" && tar -cf - --exclude=./.git --exclude=./.build --exclude=./run --exclude=./config.status \
		--exclude=./Makefile --exclude=./config.h --exclude=./stamp-h1 --exclude=.deps --exclude='*.o' \
		--exclude='*.a' .) | tar -xf - -C "$source"
}

# build_in FOLDER CONFIGURE-ARGUMENTS...: leaves the built tree there.
build_in()
{
	build=$1
	shift
	mkdir -p "$build"
	choose_source
	build_log=$build/build.log
	: >"$build_log"
	# What is older than its source is made anew by make's own rules.
	if [ ! -f "$source/configure" ] || [ ! -f "$source/build-aux/install-sh" ]; then
		(cd "$source" && quietly "$build_log" ./autogen.sh) || exit 1
	fi
	if [ ! -f "$build/Makefile" ]; then
		(cd "$build" && quietly "$build_log" "$source/configure" "$@") || exit 1
	fi
	quietly "$build_log" make -C "$build" -j"$(nproc)" all
}

# random_secret: letters and digits, 192 bits, beginning with a letter.
random_secret()
{
	printf 'p%s' "$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')"
}

# wait_for SECONDS COMMAND...: until it succeeds.
wait_for()
{
	tries=$(($1 * 10))
	shift
	while ! "$@" >/dev/null 2>&1; do
		tries=$((tries - 1))
		[ "$tries" -gt 0 ] || return 1
		sleep 0.1
	done
}
