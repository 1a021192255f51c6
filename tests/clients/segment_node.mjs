// @segment/analytics-node, as a shop's server uses it: node segment_node.mjs <collector> <write key>
import { readFileSync } from 'node:fs'
import { Analytics } from '@segment/analytics-node'

const [endpoint, writeKey] = process.argv.slice(2)
const story = JSON.parse(readFileSync(new URL('story.json', import.meta.url)))
const analytics = new Analytics({ writeKey, host: endpoint, flushAt: 4, maxRetries: 2 })
analytics.on('error', (error) => { console.error(error); process.exitCode = 1 })

const sent = []
const send = (kind, step, message) =>
  new Promise((done) => {
    const messageId = `segment-node-${process.pid}-${step}`
    analytics[kind]({ messageId, anonymousId: story.anonymousId, userId: story.userId, ...message }, (error) => {
      if (error) throw error
      sent.push({ step, id: messageId })
      done()
    })
  })
const context = { page: { url: story.url, referrer: story.referrer, title: story.title } }
const shared = { currency: story.currency, list_id: story.list }
const [lamp] = story.products

const all = [
  send('page', 'page', { name: 'Lamps', properties: { url: story.url, referrer: story.referrer, title: story.title } }),
  send('track', 'list', { event: 'Product List Viewed', context, properties: { ...shared, products: story.products } }),
  send('track', 'click', { event: 'Product Clicked', context, properties: { ...shared, ...lamp } }),
  send('track', 'view', { event: 'Product Viewed', context, properties: { ...shared, ...lamp } }),
  send('track', 'cart', { event: 'Product Added', context, properties: { ...shared, ...lamp } }),
  send('track', 'order', {
    event: 'Order Completed',
    context,
    properties: { order_id: story.orderId, revenue: story.revenue, currency: story.currency, products: story.products },
  }),
  send('track', 'search', { event: 'Products Searched', context, properties: { query: story.query } }),
  send('track', 'custom', { event: story.custom.name, context, properties: story.custom.properties }),
  send('identify', 'identify', { traits: { plan: 'gold' } }),
  send('alias', 'alias', { previousId: story.previousId }),
  send('group', 'group', { groupId: story.groupId, traits: { seats: 3 } }),
]
await analytics.closeAndFlush()
await Promise.all(all)
console.log(JSON.stringify(sent))
