// @snowplow/node-tracker, as a shop's server uses it: node snowplow_node.mjs <collector> <app id> [get]
import { readFileSync } from 'node:fs'
import * as snowplow from '@snowplow/node-tracker'

const [endpoint, appId, method] = process.argv.slice(2)
const story = JSON.parse(readFileSync(new URL('story.json', import.meta.url)))
const url = new URL(endpoint)
const tracker = snowplow.newTracker(
  { namespace: 'shop', appId, encodeBase64: method !== 'get' },
  {
    endpoint: url.hostname,
    port: Number(url.port),
    protocol: url.protocol.slice(0, -1),
    eventMethod: method ?? 'post',
    bufferSize: 1,
    onRequestFailure: (failure) => { console.error(failure); process.exitCode = 1 },
  },
)
tracker.setDomainUserId(story.anonymousId)
tracker.setUserId(story.userId)
tracker.setSessionId('session-1')
tracker.setUseragent('Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36')

const sent = []
const send = (step, event, contexts) => sent.push({ step, id: tracker.track(event, contexts).eid })
const ECOMMERCE = 'iglu:com.snowplowanalytics.snowplow.ecommerce'
const product = (given) => ({
  schema: `${ECOMMERCE}/product/jsonschema/1-0-0`,
  data: { id: given.product_id, name: given.name, price: given.price, quantity: given.quantity, position: given.position, currency: story.currency },
})
const action = (data) =>
  snowplow.buildSelfDescribingEvent({ event: { schema: `${ECOMMERCE}/snowplow_ecommerce_action/jsonschema/1-0-2`, data } })
const [lamp] = story.products

send('page', snowplow.buildPageView({ pageUrl: story.url, pageTitle: story.title, referrer: story.referrer }))
send('ping', snowplow.buildPagePing({ pageUrl: story.url, pageTitle: story.title, maxYOffset: 400 }))
send('list', action({ type: 'list_view', name: story.list }), story.products.map(product))
send('click', action({ type: 'list_click', name: story.list }), [product(lamp)])
send('view', action({ type: 'product_view' }), [product(lamp)])
send('cart', action({ type: 'add_to_cart' }), [
  product(lamp),
  { schema: `${ECOMMERCE}/cart/jsonschema/1-0-0`, data: { total_value: 39, currency: story.currency } },
])
send('order', action({ type: 'transaction' }), [
  ...story.products.map(product),
  { schema: `${ECOMMERCE}/transaction/jsonschema/1-0-0`, data: { transaction_id: story.orderId, revenue: story.revenue, currency: story.currency, payment_method: 'card' } },
])
send('search', snowplow.buildSiteSearch({ terms: ['reading', 'lamp'], totalResults: 2 }))
send('link', snowplow.buildLinkClick({ targetUrl: 'https://shop.example/lamp-1', elementId: 'first' }))
send('struct', snowplow.buildStructEvent({ category: 'shop', action: 'add-to-basket', label: lamp.product_id, property: 'pcs', value: 2 }))
send('oldcart', snowplow.buildAddToCart({ sku: lamp.product_id, unitPrice: lamp.price, quantity: 2, currency: story.currency }))
send('transaction', snowplow.buildEcommerceTransaction({ orderId: story.orderId, total: story.revenue, currency: story.currency }))
send('item', snowplow.buildEcommerceTransactionItem({ orderId: story.orderId, sku: lamp.product_id, price: lamp.price, quantity: 2, currency: story.currency }))
send('custom', snowplow.buildSelfDescribingEvent({ event: { schema: 'iglu:example.shop/lamp_rated/jsonschema/1-0-0', data: story.custom.properties } }))
await tracker.flush?.()
console.log(JSON.stringify(sent))
