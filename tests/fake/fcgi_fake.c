/* SPDX-License-Identifier: Apache-2.0 */
/* As fcgi.c does it, from memory. */
#include "tests/fake/fcgi_fake.h"

#include <string.h>

#include "fcgi-app/fcgi.h"

char *fcgi_param(struct fcgi_conn *conn, const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; i < conn->param_count; i++)
		if (strncmp(conn->params[i], name, len) == 0 && conn->params[i][len] == '=')
			return conn->params[i] + len + 1;
	return NULL;
}

size_t fcgi_read(struct fcgi_conn *conn, void *data, size_t len)
{
	if (len > conn->body_len - conn->body_used)
		len = conn->body_len - conn->body_used;
	memcpy(data, conn->body + conn->body_used, len);
	conn->body_used += len;
	return len;
}

bool fcgi_write(struct fcgi_conn *conn, const void *data, size_t len)
{
	buf_append(&conn->answer, data, len);
	return !buf_has_failed(&conn->answer);
}

bool fcgi_flush(struct fcgi_conn *conn)
{
	return !buf_has_failed(&conn->answer);
}

bool fcgi_client_is_gone(struct fcgi_conn *conn)
{
	return buf_has_failed(&conn->answer);
}

int fcgi_fd(const struct fcgi_conn *conn)
{
	(void)conn;
	return -1;
}
