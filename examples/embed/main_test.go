package main

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func Example() {
	main()
	// Output:
	// 45.155.205.233 is blocked: true
	// 71.6.135.131 is blocked: false
	// 193.32.162.7 is blocked: false
}

var goBlock = regexp.MustCompile("(?s)```go\n(.*?)```")

// TestREADME: the Go code in the README is code of this program, but for how far
// it is indented.
func TestREADME(t *testing.T) {
	var source strings.Builder
	for _, name := range []string{"main.go", "service.go"} {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		source.WriteString(outdented(text))
	}
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	blocks := goBlock.FindAllSubmatch(readme, -1)
	require.NotEmpty(t, blocks)
	for _, block := range blocks {
		for part := range strings.SplitSeq(string(block[1]), "\n\n") { // parts of a block need not follow each other
			require.Contains(t, source.String(), outdented([]byte(part)))
		}
	}
}

var colour = regexp.MustCompile(`#[0-9a-f]{6}`)

// TestDiagram: the light and the dark variant differ in nothing but colours.
func TestDiagram(t *testing.T) {
	light, err := os.ReadFile("../../docs/flow-light.svg")
	require.NoError(t, err)
	dark, err := os.ReadFile("../../docs/flow-dark.svg")
	require.NoError(t, err)
	require.NotEqual(t, string(light), string(dark))
	require.Equal(t, colour.ReplaceAllString(string(light), "#"), colour.ReplaceAllString(string(dark), "#"))
}

// outdented returns a text without blank space at the ends of its lines.
func outdented(text []byte) string {
	var b strings.Builder
	for line := range bytes.Lines(text) {
		b.Write(bytes.TrimSpace(line))
		b.WriteByte('\n')
	}
	return b.String()
}
