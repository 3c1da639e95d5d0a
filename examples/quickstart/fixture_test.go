package main

import (
	"encoding/binary"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
)

// manyAddresses returns n different public addresses, one a line.
func manyAddresses(n int) string {
	var b strings.Builder
	for i := range n {
		var addr [4]byte
		binary.BigEndian.PutUint32(addr[:], 0x2d000000+uint32(i)*257) // from 45.0.0.0 on
		b.WriteString(netip.AddrFrom4(addr).String() + "\n")
	}
	return b.String()
}

// cancelAfter returns a handler that calls cancel at the n-th request.
func cancelAfter(h http.Handler, n int64, cancel func()) http.Handler {
	var requests atomic.Int64
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1) == n {
			cancel()
		}
		h.ServeHTTP(w, r)
	})
}
