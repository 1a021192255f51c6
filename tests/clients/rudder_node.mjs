// @rudderstack/rudder-sdk-node, as a shop's server uses it: node rudder_node.mjs <collector> <write key>
import { readFileSync } from 'node:fs'
import Analytics from '@rudderstack/rudder-sdk-node'

const [endpoint, writeKey] = process.argv.slice(2)
const story = JSON.parse(readFileSync(new URL('story.json', import.meta.url)))
const client = new (Analytics.default ?? Analytics)(writeKey, { dataPlaneUrl: endpoint, flushAt: 20, logLevel: 'error' })

const sent = []
const waiting = []
function send(kind, step, message) {
  const messageId = `rudder-node-${process.pid}-${step}`
  waiting.push(
    new Promise((done, fail) => {
      client[kind]({ messageId, anonymousId: story.anonymousId, userId: story.userId, ...message }, (error) =>
        error ? fail(error) : done(sent.push({ step, id: messageId })),
      )
    }),
  )
}
const context = { page: { url: story.url, referrer: story.referrer, title: story.title } }
const shared = { currency: story.currency, list_id: story.list }
const [lamp] = story.products

send('page', 'page', { name: 'Lamps', properties: { url: story.url, referrer: story.referrer, title: story.title } })
send('track', 'list', { event: 'Product List Viewed', context, properties: { ...shared, products: story.products } })
send('track', 'click', { event: 'Product Clicked', context, properties: { ...shared, ...lamp } })
send('track', 'view', { event: 'Product Viewed', context, properties: { ...shared, ...lamp } })
send('track', 'cart', { event: 'Product Added', context, properties: { ...shared, ...lamp } })
send('track', 'order', {
  event: 'Order Completed',
  context,
  properties: { order_id: story.orderId, revenue: story.revenue, currency: story.currency, products: story.products },
})
send('track', 'search', { event: 'Products Searched', context, properties: { query: story.query } })
send('track', 'custom', { event: story.custom.name, context, properties: story.custom.properties })
send('identify', 'identify', { traits: { plan: 'gold' } })
send('alias', 'alias', { previousId: story.previousId })
send('group', 'group', { groupId: story.groupId, traits: { seats: 3 } })
await client.flush()
await Promise.all(waiting)
console.log(JSON.stringify(sent))
process.exit(0) // its timers would keep the process
