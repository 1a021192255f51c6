// @segment/analytics-next, as a shop's page uses it with settings of its own instead of a CDN's.
import { AnalyticsBrowser } from '@segment/analytics-next'
import story from '../story.json'

const { collector, writeKey } = window.shop
const { host, protocol } = new URL(collector)
const endpoint = { apiKey: writeKey, apiHost: `${host}/v1`, protocol: protocol.slice(0, -1) }
const batching = new URLSearchParams(location.search).has('batching')
const delivery = batching ? { deliveryStrategy: { strategy: 'batching', config: { size: 20, timeout: 200 } } } : {}

async function run() {
  const [analytics] = await AnalyticsBrowser.load(
    { writeKey, cdnSettings: { integrations: { 'Segment.io': { ...endpoint, ...delivery } }, plan: {} } },
    { integrations: { 'Segment.io': { ...endpoint, ...delivery } } },
  )
  analytics.setAnonymousId(story.anonymousId)
  const shared = { currency: story.currency, list_id: story.list }
  const [lamp] = story.products
  const order = { order_id: story.orderId, revenue: story.revenue, currency: story.currency }
  const note = (step) => (context) => window.sent.push({ step, id: context.event.messageId })

  await analytics.page('Lamps').then(note('page'))
  await analytics.identify(story.userId, { plan: 'gold' }).then(note('identify'))
  await Promise.all([
    analytics.track('Product List Viewed', { ...shared, products: story.products }).then(note('list')),
    analytics.track('Product Clicked', { ...shared, ...lamp }).then(note('click')),
    analytics.track('Product Viewed', { ...shared, ...lamp }).then(note('view')),
    analytics.track('Product Added', { ...shared, ...lamp }).then(note('cart')),
    analytics.track('Order Completed', { ...order, products: story.products }).then(note('order')),
    analytics.track('Products Searched', { query: story.query }).then(note('search')),
    analytics.track(story.custom.name, story.custom.properties).then(note('custom')),
  ])
  await analytics.group(story.groupId, { seats: 3 }).then(note('group'))
  await analytics.alias(story.userId, story.previousId).then(note('alias'))
  window.finished = true
}
run()
