package export

import (
	"net/http"
)

// SetTransport replaces the connections of a webhook.
func (w *Webhook) SetTransport(rt http.RoundTripper) { w.client.Transport = rt }
