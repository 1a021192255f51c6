// @rudderstack/analytics-js, as a shop's page uses it with a source configuration of its own.
import { RudderAnalytics } from '@rudderstack/analytics-js/bundled'
import story from '../story.json'

const { collector, writeKey } = window.shop
const asked = new URLSearchParams(location.search)
const source = {
  source: {
    id: 'shop', name: 'shop', writeKey, enabled: true, workspaceId: 'shop', destinations: [], connections: [],
    config: { statsCollection: { errors: { enabled: false }, metrics: { enabled: false } } },
  },
}
const beacon = asked.has('beacon') ? { useBeacon: true, beaconQueueOptions: { maxItems: 20, flushQueueInterval: 200 } } : {}
const batch = asked.has('batching') ? { queueOptions: { batch: { enabled: true, maxItems: 20, flushInterval: 200 } } } : {}

const analytics = new RudderAnalytics()
analytics.load(writeKey, collector, {
  getSourceConfig: () => source, sendAdblockPage: false, logLevel: 'ERROR', ...beacon, ...batch,
})
analytics.ready(() => {
  analytics.setAnonymousId(story.anonymousId)
  const shared = { currency: story.currency, list_id: story.list }
  const [lamp] = story.products
  const order = { order_id: story.orderId, revenue: story.revenue, currency: story.currency }
  const waiting = []
  const send = (step, start) => waiting.push(
    new Promise((done) => start((message) => done(window.sent.push({ step, id: message.messageId ?? message.message?.messageId })))),
  )
  send('page', (done) => analytics.page('shop', 'Lamps', {}, {}, done))
  send('identify', (done) => analytics.identify(story.userId, { plan: 'gold' }, {}, done))
  send('list', (done) => analytics.track('Product List Viewed', { ...shared, products: story.products }, {}, done))
  send('click', (done) => analytics.track('Product Clicked', { ...shared, ...lamp }, {}, done))
  send('view', (done) => analytics.track('Product Viewed', { ...shared, ...lamp }, {}, done))
  send('cart', (done) => analytics.track('Product Added', { ...shared, ...lamp }, {}, done))
  send('order', (done) => analytics.track('Order Completed', { ...order, products: story.products }, {}, done))
  send('search', (done) => analytics.track('Products Searched', { query: story.query }, {}, done))
  send('custom', (done) => analytics.track(story.custom.name, story.custom.properties, {}, done))
  send('group', (done) => analytics.group(story.groupId, { seats: 3 }, {}, done))
  send('alias', (done) => analytics.alias(story.userId, story.previousId, {}, done))
  Promise.all(waiting).then(() => { window.finished = true })
})
