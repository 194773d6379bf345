// SPDX-License-Identifier: Apache-2.0
//
// The admin page: asks for the pool's statistics every few seconds and shows
// them. The token is kept in sessionStorage, so it lives as long as the tab.
// Nothing that came from outside becomes markup: text only.
"use strict";

(() => {
	const STATS_URL = "../api/admin/pool/stats"; // below wherever Hearth was put
	const TOKEN_KEY = "hearth.token";
	const POLL_MS = 3000;
	const POLL_MAX_MS = 30000; // after errors, doubled up to this
	const ASK_TIMEOUT_MS = 10000;
	const STALE_S = 15; // workers write their figures every 5 s
	const DEAD_S = 60;

	const byId = (id) => document.getElementById(id);
	const number = new Intl.NumberFormat("en");

	let timer = 0;
	let delayMs = POLL_MS;
	let asking = null; // the AbortController of the request on its way
	let figures = null; // {asOfMs, skewMs, gotMs}: what the age is reckoned from

	// --- small helpers ---

	const setText = (id, text) => {
		const element = byId(id);
		if (element.textContent !== text)
			element.textContent = text;
	};

	const show = (id, isShown) => {
		byId(id).hidden = !isShown;
	};

	const bytes = (n) => {
		const units = ["B", "KiB", "MiB", "GiB", "TiB"];
		let unit = 0;
		while (n >= 1024 && unit < units.length - 1) {
			n /= 1024;
			unit++;
		}
		return (unit === 0 || n >= 100 ? n.toFixed(0) : n.toFixed(1)) + " " + units[unit];
	};

	const age = (seconds) => {
		if (seconds < 90)
			return Math.max(0, Math.round(seconds)) + " s";
		if (seconds < 5400)
			return Math.round(seconds / 60) + " min";
		if (seconds < 172800)
			return Math.round(seconds / 3600) + " h";
		return Math.round(seconds / 86400) + " days";
	};

	const notice = (text, isBad) => {
		byId("notice").className = isBad ? "notice bad" : "notice";
		setText("notice", text);
		show("notice", text !== "");
	};

	// --- how old the figures are, ticking ---

	const setFreshness = (text, mood) => {
		byId("freshness").className = "freshness " + mood;
		setText("freshness-text", text);
		show("freshness", true);
	};

	const tick = () => {
		if (!figures)
			return;
		if (figures.asOfMs === null) {
			setFreshness("no figures yet", "warn");
			return;
		}
		const seconds = (Date.now() + figures.skewMs - figures.asOfMs) / 1000;
		const mood = seconds > DEAD_S ? "bad" : seconds > STALE_S ? "warn" : "good";
		setFreshness("figures are " + age(seconds) + " old", mood);
	};

	// --- drawing ---

	const cell = (row, text, className) => {
		const td = document.createElement("td");
		td.textContent = text;
		if (className)
			td.className = className;
		row.append(td);
		return td;
	};

	const levelCell = (row, count, ceiling, className) => {
		const td = cell(row, "");
		const box = document.createElement("div");
		const bar = document.createElement("progress");
		const text = document.createElement("span");
		box.className = "level";
		bar.className = className;
		bar.max = Math.max(ceiling, 1);
		bar.value = Math.min(count, bar.max);
		bar.setAttribute("aria-label", className + ": " + count + " of " + ceiling);
		text.textContent = number.format(count) + " / " + number.format(ceiling);
		box.append(bar, text);
		td.append(box);
	};

	const workerRow = (w) => {
		const row = document.createElement("tr");
		const name = document.createElement("th");
		const state = document.createElement("span");
		name.scope = "row";
		name.textContent = w.worker_id;
		row.append(name);
		state.className = "state " + (w.state === "active" ? "good" : "warn");
		state.textContent = w.state;
		cell(row, "").append(state);
		levelCell(row, w.hot_tier_count, w.hot_ceiling, "hot");
		levelCell(row, w.demand_tier_count, w.demand_ceiling, "demand");
		cell(row, number.format(w.turns_in_flight), "number");
		cell(row, bytes(w.memory_bytes), "number");
		cell(row, age(w.lease_age_ms / 1000) + " ago", "number");
		return row;
	};

	/* Its lease has run out: dead, hung, or cut off. */
	const expiredRow = (w) => {
		const row = document.createElement("tr");
		const name = document.createElement("th");
		const state = document.createElement("span");
		name.scope = "row";
		name.textContent = w.worker_id;
		row.append(name);
		state.className = "state bad";
		state.textContent = "expired";
		cell(row, "").append(state);
		const where = cell(row, "on " + w.host);
		where.colSpan = 4;
		cell(row, age(w.lease_age_ms / 1000) + " ago", "number");
		return row;
	};

	const share = (workers, count, ceiling) => {
		const sum = workers.reduce((n, w) => n + w[ceiling], 0);
		return sum > 0 ? "of " + number.format(sum) + " (" + Math.round((100 * count) / sum) + " %)" : "";
	};

	const drawCards = (s) => {
		for (const id of ["total_instances", "hot_tier_count", "demand_tier_count", "shared_model_count",
			"shared_bundle_count", "turns_in_flight"])
			setText(id, number.format(s[id]));
		setText("total-sub", number.format(s.loading_count) + " loading, " + number.format(s.failed_count) + " failed");
		setText("hot-sub", share(s.workers, s.hot_tier_count, "hot_ceiling"));
		setText("demand-sub", share(s.workers, s.demand_tier_count, "demand_ceiling"));
		setText("memory-sub", bytes(s.memory_bytes) + " of memory");
	};

	const drawBus = (bus) => {
		byId("bus-connected").className = bus.connected ? "good" : "bad";
		setText("bus-connected", bus.connected ? "connected" : "not connected");
		setText("bus-waiting", number.format(bus.events_waiting));
		setText("bus-redelivered", number.format(bus.redelivered));
	};

	const draw = (s) => {
		const workers = [...s.workers].sort((a, b) => a.worker_id.localeCompare(b.worker_id));
		drawCards(s);
		byId("workers").replaceChildren(...workers.map(workerRow), ...s.workers_expired.map(expiredRow));
		setText("worker-count", "(" + workers.length + ")");
		show("no-workers", workers.length === 0);
		drawBus(s.bus);
		show("pool", true);
	};

	// --- signing in and out ---

	const signOut = (text) => {
		sessionStorage.removeItem(TOKEN_KEY);
		stop();
		figures = null;
		show("pool", false);
		show("freshness", false);
		show("sign-out", false);
		show("sign-in", true);
		notice(text, text !== "");
		byId("token").focus();
	};

	const signIn = (event) => {
		event.preventDefault();
		const token = byId("token").value.trim();
		byId("token").value = "";
		if (!/^hrt_[A-Za-z0-9_-]{43}$/.test(token)) {
			notice("This does not look like a token: it begins with hrt_ and has 47 characters.", true);
			return;
		}
		sessionStorage.setItem(TOKEN_KEY, token);
		notice("", false);
		begin();
	};

	// --- asking ---

	const stop = () => {
		clearTimeout(timer);
		timer = 0;
		if (asking)
			asking.abort();
		asking = null;
	};

	const plan = (ms) => {
		clearTimeout(timer);
		timer = document.hidden ? 0 : setTimeout(ask, ms);
	};

	const keepFigures = (s, response) => {
		const now = Date.now();
		const serverMs = Date.parse(response.headers.get("Date") || "");
		figures = {
			asOfMs: s.as_of ? Date.parse(s.as_of) : null,
			// Only a clock that is clearly wrong is corrected: the header knows whole seconds.
			skewMs: Math.abs(serverMs - now) > 2000 ? serverMs - now : 0,
		};
	};

	const refuse = async (response) => {
		if (response.status === 401)
			return signOut("The token is not valid, has expired or was revoked.");
		if (response.status === 403)
			return signOut("This token is not one of a sys_admin.");
		let why = "HTTP " + response.status;
		try {
			const problem = await response.json();
			why = problem.title || why;
		} catch {
			// not from Hearth, but from the web server in front
		}
		retry("No new figures: " + why + ".");
	};

	const retry = (text) => {
		notice(text + " Trying again.", true);
		delayMs = Math.min(2 * delayMs, POLL_MAX_MS);
		plan(delayMs);
	};

	const ask = async () => {
		const token = sessionStorage.getItem(TOKEN_KEY);
		if (!token)
			return signOut("");
		stop();
		const mine = new AbortController();
		asking = mine;
		const limit = setTimeout(() => mine.abort(), ASK_TIMEOUT_MS);
		try {
			const response = await fetch(STATS_URL, {
				headers: { Authorization: "Bearer " + token, Accept: "application/json" },
				cache: "no-store",
				credentials: "omit",
				referrerPolicy: "no-referrer",
				signal: mine.signal,
			});
			if (asking !== mine)
				return;
			if (!response.ok)
				return await refuse(response);
			const stats = await response.json();
			if (asking !== mine) // signed out meanwhile
				return;
			keepFigures(stats, response);
			draw(stats);
			tick();
			notice(stats.bus.connected ? "" : "Hearth has no connection to the bus: chats are refused, loads wait.", true);
			delayMs = POLL_MS;
			plan(delayMs);
		} catch {
			if (asking === mine)
				retry("Hearth does not answer.");
		} finally {
			clearTimeout(limit);
			if (asking === mine)
				asking = null;
		}
	};

	const begin = () => {
		show("sign-in", false);
		show("sign-out", true);
		delayMs = POLL_MS;
		ask();
	};

	byId("sign-in").addEventListener("submit", signIn);
	byId("sign-out").addEventListener("click", () => signOut(""));
	document.addEventListener("visibilitychange", () => {
		if (!document.hidden && sessionStorage.getItem(TOKEN_KEY) && !asking)
			ask();
	});
	setInterval(tick, 1000);
	if (sessionStorage.getItem(TOKEN_KEY))
		begin();
	else
		signOut("");
})();
