package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestProgressBar(t *testing.T) {
	require.Equal(t, "[                        ] 0 of 10", bar(0, 10, time.Minute))
	require.Equal(t, "[============            ] 1,500 of 3,000, 1m0s left", bar(1500, 3000, time.Minute))
	require.Equal(t, "[========================] 10 of 10", bar(10, 10, time.Minute))
	require.Equal(t, "[                        ] 0 of 0", bar(0, 0, 0))
}

func TestBarStaysBelowTheLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var screen bytes.Buffer
		term := &terminal{w: &screen, isTTY: true}
		p := term.progress("Asking", 4)
		p.add(1)
		time.Sleep(110 * time.Millisecond) // of fake time: the bar is drawn
		synctest.Wait()
		fmt.Fprintln(term, "a warning")
		p.add(7)
		time.Sleep(100 * time.Millisecond)
		p.end()
		fmt.Fprintln(term, "the end")

		const clear = "\r\x1b[K"
		one, all := "Asking "+bar(1, 4, 0), "Asking "+bar(4, 4, 0)
		require.Equal(t, one+clear+"a warning\n"+one+clear+all+clear+"the end\n", screen.String())
	})
}

func TestNoBarWithoutTerminal(t *testing.T) {
	var screen bytes.Buffer
	p := newTerminal(&screen).progress("Asking", 4)
	p.add(4)
	p.end()
	require.Empty(t, screen.String())
}

func TestCleanMakesForeignTextHarmless(t *testing.T) {
	require.Equal(t, "?[31mred?", clean("\x1b[31mred\xff"))
	require.Equal(t, "a?b", clean("a\u202eb"))
	require.Equal(t, strings.Repeat("é", 40)+"...", clean(strings.Repeat("é", 1000)))
}

func TestThousands(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 120430: "120,430", 1234567: "1,234,567"} {
		require.Equal(t, want, thousands(n))
	}
}
