/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The admin page: a few files with fixed names out of app.dashboard_dir. The page
 * holds no data; it asks the API with the token that was pasted into it. Its
 * policy lets it load and ask nothing but ourselves.
 */
#include "fcgi-app/handlers.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/settings.h"
#include "fcgi-app/app.h"
#include "fcgi-app/fcgi.h"
#include "fcgi-app/request.h"
#include "lib/arena.h"

#define FILE_BYTES_MAX (512 * 1024)
#define POLICY                                                                                                         \
	"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "          \
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

static const struct {
	const char *name; /* in the address */
	const char *file;
	const char *type;
} files[] = {
	{"", "index.html", "text/html; charset=utf-8"},
	{"index.html", "index.html", "text/html; charset=utf-8"},
	{"admin.css", "admin.css", "text/css; charset=utf-8"},
	{"admin.js", "admin.js", "text/javascript; charset=utf-8"},
};

static bool read_whole(int fd, char *to, size_t len)
{
	while (len > 0) {
		ssize_t got = read(fd, to, len);
		if (got <= 0)
			return false;
		to += got;
		len -= (size_t)got;
	}
	return true;
}

/* Content and ETag into res. False: no such file, or not one we would serve. */
static bool load_file(struct request *req, struct response *res, const char *file, struct err *e)
{
	const char *path = arena_printf(req->mem, "%s/%s", req->app->settings->app.dashboard_dir, file);
	struct stat st;
	char *data = NULL;
	bool ok = false;

	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size > FILE_BYTES_MAX)
		goto out;
	data = arena_alloc(req->mem, (size_t)st.st_size + 1);
	if (!data || !read_whole(fd, data, (size_t)st.st_size))
		goto out;
	res->raw = data;
	res->raw_len = (size_t)st.st_size;
	res->etag = arena_printf(req->mem, "\"%" PRIx64 "-%" PRIx64 "-%lx\"", (uint64_t)st.st_mtim.tv_sec,
				 (uint64_t)st.st_size, st.st_mtim.tv_nsec);
	ok = true;
out:
	if (fd >= 0)
		(void)close(fd);
	return ok || err_set(e, ERR_MISSING, "the admin page's file %s cannot be read", path ? path : file);
}

static bool is_unchanged(struct request *req, const char *etag)
{
	const char *known = fcgi_param(req->conn, "HTTP_IF_NONE_MATCH");

	return known && etag && (strstr(known, etag) || strcmp(known, "*") == 0);
}

static enum next serve_file(struct request *req, struct response *res, size_t i, struct err *e)
{
	if (!load_file(req, res, files[i].file, e))
		return NEXT_FAIL;
	res->status = 200;
	res->raw_type = files[i].type;
	res->cache_control = "no-cache"; /* kept, but asked for each time: an upgrade shows at once */
	res->security_policy = POLICY;
	if (is_unchanged(req, res->etag)) {
		res->status = 304;
		res->raw = NULL;
	}
	return NEXT_SEND;
}

enum next h_dashboard_file(struct request *req, struct response *res, struct err *e)
{
	const char *name = req->file ? req->file : "";

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		if (strcmp(files[i].name, name) == 0)
			return serve_file(req, res, i, e);
	return refuse(res, PROBLEM_NOT_FOUND, NULL);
}

/* The page's addresses are relative to /admin/. */
enum next h_dashboard_redirect(struct request *req, struct response *res, struct err *e)
{
	(void)req;
	(void)e;
	res->location = "/admin/";
	return answer(res, 308, NULL);
}
