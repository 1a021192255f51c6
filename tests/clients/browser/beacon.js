// No tracker at all: the browser's own sendBeacon, as the page is left, with each kind of body that it knows.
import story from '../story.json'

const { collector, writeKey } = window.shop
const event = (step) => {
  const message_id = `beacon-${crypto.randomUUID()}`
  window.sent.push({ step, id: message_id })
  return {
    event_type: 'page_view', message_id, occurred_at: Date.now(), anonymous_id: story.anonymousId, user_id: story.userId,
    page: { url: location.href, title: document.title },
  }
}
const form = (step) => {
  const data = new FormData()
  data.append('data', JSON.stringify(event(step)))
  data.append('write_key', writeKey)
  return data
}
const url = `${collector}/collect?write_key=${writeKey}`
addEventListener('pagehide', () => {
  navigator.sendBeacon(url, JSON.stringify(event('text')))
  navigator.sendBeacon(url, [event('line'), event('line2')].map((one) => JSON.stringify(one)).join('\n'))
  navigator.sendBeacon(`${collector}/collect`, form('multipart'))
  navigator.sendBeacon(`${collector}/collect`, new URLSearchParams({ data: JSON.stringify(event('form')), write_key: writeKey }))
  navigator.sendBeacon(url, new Blob([JSON.stringify([event('json')])], { type: 'application/json' }))
  sessionStorage.setItem('sent', JSON.stringify(window.sent))
})
window.finished = true
