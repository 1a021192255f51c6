// @snowplow/browser-tracker with its e-commerce plugin, as a shop's page uses it.
import {
  enableActivityTracking, newTracker, setUserId, trackPageView, trackSelfDescribingEvent, trackStructEvent, flushBuffer,
} from '@snowplow/browser-tracker'
import {
  SnowplowEcommercePlugin, trackAddToCart, trackProductListClick, trackProductListView, trackProductView, trackTransaction,
} from '@snowplow/browser-plugin-snowplow-ecommerce'
import story from '../story.json'

const { collector, writeKey } = window.shop
const asked = new URLSearchParams(location.search)
let step = ''
const noted = { afterTrack: (payload) => window.sent.push({ step: payload.e === 'pp' ? 'ping' : step, id: payload.eid }) }
newTracker('shop', collector, {
  appId: writeKey,
  eventMethod: asked.get('method') ?? 'post',
  encodeBase64: !asked.has('plain'),
  bufferSize: asked.has('batching') ? 20 : 1,
  contexts: { webPage: true, session: true, browser: true },
  plugins: [SnowplowEcommercePlugin(), noted],
})
const product = ({ product_id, ...rest }) => ({ id: product_id, currency: story.currency, ...rest })
const products = () => story.products.map(product)
const send = (name, track) => { step = name; track() }

setUserId(story.userId)
if (asked.has('pings')) enableActivityTracking({ minimumVisitLength: 1, heartbeatDelay: 1 })
send('page', () => trackPageView())
send('list', () => trackProductListView({ name: story.list, products: products() }))
send('click', () => trackProductListClick({ name: story.list, product: products()[0] }))
send('view', () => trackProductView(products()[0]))
send('cart', () => trackAddToCart({ total_value: 39, currency: story.currency, products: products().slice(0, 1) }))
send('order', () => trackTransaction({
  transaction_id: story.orderId, revenue: story.revenue, currency: story.currency, payment_method: 'card', products: products(),
}))
send('struct', () => trackStructEvent({ category: 'shop', action: 'add-to-basket', label: 'lamp-1', property: 'pcs', value: 2 }))
send('custom', () => trackSelfDescribingEvent({
  event: { schema: 'iglu:example.shop/lamp_rated/jsonschema/1-0-0', data: story.custom.properties },
}))
if (asked.has('batching')) flushBuffer()
window.finished = true
