// Sends what happens on a page to the collector, as native events (ingest/click_event.avsc names the fields):
//
//   page_view     when the page is shown, also when the browser brings it back from its back/forward cache
//   impression    once for each card of a list, when half of it has come into view
//   click         on a card, with its place in the list, from 0
//
// The page says what to send: <script id="page-data"> holds the collector's URL, the write key, the visitor and the
// item; a list has data-list-id, data-impression-id, data-model-version and data-source; a card in it has data-item-id
// and data-position. Events leave in batches, a second after the first or when the page is left, whichever is sooner;
// a click leaves at once.
"use strict";

(() => {
  const data = JSON.parse(document.getElementById("page-data").textContent);
  const FLUSH_MS = 1000;
  const BATCH = 50; // events; some 30 KB: a browser's beacons may hold 64 KB in all
  const queue = [];
  let sequence = 0;
  let timer = null;

  // crypto.randomUUID exists on https and localhost only
  function uuid() {
    if (crypto.randomUUID) return crypto.randomUUID();
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
  }

  function track(type, fields) {
    queue.push({
      message_id: uuid(), // made once: however often it is sent, it is one event
      event_type: type,
      occurred_at: Date.now(),
      sequence: sequence++,
      anonymous_id: data.visitor,
      page: {
        url: location.href,
        path: location.pathname,
        referrer: document.referrer || null,
        title: data.title || document.title,
      },
      ...fields,
    });
    timer ??= setTimeout(flush, FLUSH_MS);
  }

  function flush() {
    clearTimeout(timer);
    timer = null;
    while (queue.length) {
      send(queue.splice(0, BATCH));
    }
  }

  function send(batch) {
    // sent_at lets the collector correct for a wrong clock; text/plain needs no preflight
    const body = JSON.stringify({ write_key: data.writeKey, sent_at: Date.now(), batch });
    const blob = new Blob([body], { type: "text/plain;charset=UTF-8" });
    if (navigator.sendBeacon && navigator.sendBeacon(data.collector, blob)) return;
    const request = { method: "POST", body: blob, mode: "cors", credentials: "omit" };
    // keepalive shares the beacons' limit: where that is used up, at least a page that stays can still send
    fetch(data.collector, { ...request, keepalive: true })
      .catch(() => fetch(data.collector, request))
      .catch((error) => console.warn("clickstream: events not delivered", error));
  }

  function placed(card) {
    const list = card.closest("[data-list-id]").dataset;
    return {
      item_id: card.dataset.itemId,
      list_id: list.listId,
      position: Number(card.dataset.position),
      impression_id: list.impressionId,
      model_version: list.modelVersion,
      properties: { source: list.source },
    };
  }

  function viewPage() {
    track("page_view", {
      ...(data.itemId === null ? {} : { item_id: data.itemId }),
      ...(data.modelVersion === null ? {} : { model_version: data.modelVersion }),
    });
  }

  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      seen.unobserve(entry.target);
      track("impression", placed(entry.target));
    }
  }, { threshold: 0.5 });

  function clicked(event) {
    if (event.button > 1) return; // the right button opens a menu, no page
    const card = event.target.closest("a") && event.target.closest("[data-item-id]");
    if (!card) return;
    track("click", placed(card));
    flush();
  }

  viewPage();
  document.querySelectorAll("[data-list-id] [data-item-id]").forEach((card) => seen.observe(card));
  document.addEventListener("click", clicked);
  document.addEventListener("auxclick", clicked); // middle button: opens in a new tab
  addEventListener("pageshow", (event) => event.persisted && viewPage());
  addEventListener("pagehide", flush);
  document.addEventListener("visibilitychange", () => document.visibilityState === "hidden" && flush());
})();
