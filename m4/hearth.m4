dnl SPDX-License-Identifier: Apache-2.0
dnl What configure asks for beyond the usual: flags, libraries, tools.

dnl HEARTH_ADD_CFLAG(flag): adds it where the compiler knows it.
AC_DEFUN([HEARTH_ADD_CFLAG], [
  hearth_saved="$CFLAGS"
  CFLAGS="$CFLAGS -Werror $1"
  AC_MSG_CHECKING([whether $CC accepts $1])
  AC_COMPILE_IFELSE([AC_LANG_PROGRAM([], [])],
    [AC_MSG_RESULT([yes]); HEARTH_CFLAGS="$HEARTH_CFLAGS $1"], [AC_MSG_RESULT([no])])
  CFLAGS="$hearth_saved"
])

AC_DEFUN([HEARTH_COMPILER_FLAGS], [
  AC_ARG_ENABLE([werror], [AS_HELP_STRING([--enable-werror], [warnings are errors (for CI)])])
  AC_ARG_WITH([sanitizer], [AS_HELP_STRING([--with-sanitizer=LIST], [address,undefined or thread])],
    [], [with_sanitizer=no])
  HEARTH_CFLAGS="-std=gnu17 -pthread"
  for flag in -Wall -Wextra -Wshadow -Wvla -Wformat=2 -Wstrict-prototypes -Wmissing-prototypes \
    -Wwrite-strings -fstack-protector-strong -fno-strict-aliasing; do
    HEARTH_ADD_CFLAG([$flag])
  done
  HEARTH_LDFLAGS=""
  AC_ARG_ENABLE([fuzzing], [AS_HELP_STRING([--enable-fuzzing], [build tests/fuzz with libFuzzer (needs clang)])],
    [], [enable_fuzzing=no])
  AM_CONDITIONAL([FUZZING], [test "x$enable_fuzzing" = xyes])
  AM_COND_IF([FUZZING], [
    with_sanitizer=fuzzer-no-link,address,undefined
    HEARTH_CFLAGS="$HEARTH_CFLAGS -fno-sanitize-recover=undefined"
  ])
  AS_IF([test "x$with_sanitizer" != xno], [
    HEARTH_CFLAGS="$HEARTH_CFLAGS -fsanitize=$with_sanitizer -fno-omit-frame-pointer -g"
    HEARTH_LDFLAGS="-fsanitize=$with_sanitizer"
  ], [
    AC_CACHE_CHECK([whether _FORTIFY_SOURCE can be set], [hearth_cv_fortify], [
      AS_CASE(["$CFLAGS"], [*-O0*], [hearth_cv_fortify=no], [hearth_cv_fortify=yes])])
    AS_IF([test "$hearth_cv_fortify" = yes],
      [HEARTH_CFLAGS="$HEARTH_CFLAGS -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2"])
  ])
  AS_IF([test "x$enable_werror" = xyes], [HEARTH_CFLAGS="$HEARTH_CFLAGS -Werror"])
  dnl What make bench may measure.
  AS_CASE(["$with_sanitizer $CFLAGS"], [no*-O@<:@2-9@:>@*], [hearth_is_fast=yes], [hearth_is_fast=no])
  AM_CONDITIONAL([HAVE_FAST_BUILD], [test "$hearth_is_fast" = yes])
  AC_SUBST([HEARTH_CFLAGS])
  AC_SUBST([HEARTH_LDFLAGS])
])

dnl HEARTH_NEED(VARIABLE, pkg-config name, Debian package, Fedora/EL package)
AC_DEFUN([HEARTH_NEED], [
  PKG_CHECK_MODULES([$1], [$2], [], [
    hearth_missing="$hearth_missing
    $2: Debian/Ubuntu: $3   Fedora/EL: $4"])
])

AC_DEFUN([HEARTH_LIBRARIES], [
  hearth_missing=""
  HEARTH_NEED([JSON_C], [json-c], [libjson-c-dev], [json-c-devel])
  HEARTH_NEED([MARIADB], [libmariadb], [libmariadb-dev], [mariadb-connector-c-devel])
  HEARTH_NEED([NATS], [libnats], [libnats-dev], [libnats-devel (EPEL: cnats-devel)])
  HEARTH_NEED([GMP], [gmp], [libgmp-dev], [gmp-devel])
  HEARTH_NEED([UV], [libuv], [libuv1-dev], [libuv-devel])
  HEARTH_NEED([SODIUM], [libsodium], [libsodium-dev], [libsodium-devel])
  HEARTH_NEED([INIH], [inih], [libinih-dev], [inih-devel])
  HEARTH_NEED([CURL], [libcurl >= 7.87], [libcurl4-openssl-dev], [libcurl-devel])
  HEARTH_NEED([CUNIT], [cunit], [libcunit1-dev], [CUnit-devel])
  dnl Debian's libfcgi has a pkg-config file, older ones have not.
  PKG_CHECK_MODULES([FCGI], [fcgi], [], [
    AC_CHECK_HEADER([fcgiapp.h], [AC_SUBST([FCGI_LIBS], [-lfcgi])], [hearth_missing="$hearth_missing
    fcgi: Debian/Ubuntu: libfcgi-dev   Fedora/EL: fcgi-devel"])])
  AC_CHECK_HEADER([uthash.h], [], [hearth_missing="$hearth_missing
    uthash.h: Debian/Ubuntu: uthash-dev   Fedora/EL: uthash-devel"])
  AS_IF([test -n "$hearth_missing"], [AC_MSG_ERROR([these development packages are missing:$hearth_missing
  scripts/quickstart and scripts/check install them on Debian.])])
])

AC_DEFUN([HEARTH_TOOLS], [
  AC_PATH_PROGS([PYTHON3], [python3], [python3], [/usr/bin:$PATH])
  AC_PATH_PROG([CLANG_FORMAT], [clang-format], [clang-format])
  AC_PATH_PROG([CPPCHECK], [cppcheck], [cppcheck])
  AC_PATH_PROG([SPIN], [spin], [spin])
  AC_PATH_PROG([PANDOC], [pandoc])
  AM_CONDITIONAL([HAVE_PANDOC], [test -n "$PANDOC"])
  AS_IF([test -z "$PANDOC"],
    [AC_MSG_NOTICE([there is no pandoc: no man pages are made, the manual is installed as Markdown alone])])
])
