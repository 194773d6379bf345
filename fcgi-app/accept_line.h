/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lifecycle requests on their way into the database. One that comes alone goes at once. Those that come while others
 * are being written stand in line, and the first of them then takes all that stand there into one transaction
 * (lifecycle_accept): the busier it is, the less each request costs.
 *
 * At most LEADERS_MAX of them write at the same time, so they never hold more connections than that.
 */
#ifndef FCGI_APP_ACCEPT_LINE_H
#define FCGI_APP_ACCEPT_LINE_H

struct accept_line;
struct app;
struct lifecycle_step;

struct accept_line *accept_line_new(void);
/* After the last request. */
void accept_line_free(struct accept_line **line);
/*
 * Returns when the step is answered: as lifecycle_accept does, or not ok because no connection was to be had
 * (app_db_take). Uses of tokens are noted. Any thread; a step and its arena belong to another thread meanwhile.
 */
void accept_line_pass(struct app *app, struct lifecycle_step *step);

#endif
