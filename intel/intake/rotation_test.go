package intake_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/store"
)

func (f *fixture) forget(numbers ...int) {
	f.Helper()
	for _, n := range numbers {
		require.NoError(f, f.store.Forget(f.Context(), store.AttackerID(addr(n))))
	}
}

// logged waits until the log has a text.
func (f *fixture) logged(text string) {
	f.Helper()
	require.Eventually(f, func() bool { return strings.Contains(f.log.String(), text) }, wait, time.Millisecond, text)
}

func lines(from, to int) string {
	var b strings.Builder
	for n := from; n <= to; n++ {
		b.WriteString(line(n))
	}
	return b.String()
}

// Rotation in ways that logrotate, a sensor or an operator may choose. In each, the
// attackers 1 to 3 were read before, and all up to 9 must be there at the end, in
// whatever file they are.
func TestFollowRotatedInOddWays(t *testing.T) {
	for name, c := range map[string]struct {
		down   bool // nothing follows while the file is rotated
		rotate func(f *fixture, path string)
	}{
		"copied, truncated and compressed while down": {true, func(f *fixture, path string) {
			f.append(path, 4, 6)
			text, err := os.ReadFile(path)
			require.NoError(f, err)
			require.NoError(f, os.WriteFile(path+".1", text, 0o600))
			require.NoError(f, os.Truncate(path, 0))
			f.zip(path + ".1")
			f.append(path, 7, 9)
		}},
		"copied and truncated, and larger than before at the next look": {true, func(f *fixture, path string) {
			f.append(path, 4, 4)
			text, err := os.ReadFile(path)
			require.NoError(f, err)
			require.NoError(f, os.WriteFile(path+"-20261129", text, 0o600))
			require.NoError(f, os.WriteFile(path, []byte(lines(5, 9)+lines(5, 9)), 0o600)) // in place
		}},
		"renamed, and the new file comes late": {true, func(f *fixture, path string) {
			f.append(path, 4, 6)
			f.rename(path, path+".1")
			time.AfterFunc(100*time.Millisecond, func() { f.append(path, 7, 9) })
		}},
		"a line is cut by the rename": {false, func(f *fixture, path string) {
			file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0o600)
			require.NoError(f, err)
			whole := line(4)
			_, err = file.WriteString(whole[:30])
			require.NoError(f, err)
			f.rename(path, path+".1")
			f.append(path, 5, 9)
			f.until(5, 9)
			_, err = file.WriteString(whole[30:])
			require.NoError(f, err)
			require.NoError(f, file.Close())
		}},
		"a line is cut by a restart": {true, func(f *fixture, path string) {
			whole := lines(4, 9)
			require.NoError(f, appendText(path, whole[:100]))
			stop := f.follow(path)
			f.until(4, 4)
			stop()
			require.NoError(f, appendText(path, whole[100:]))
			f.rename(path, path+".1")
		}},
		"an empty file is rotated, too": {false, func(f *fixture, path string) {
			f.append(path, 4, 6)
			f.rename(path, path+".1")
			require.NoError(f, os.WriteFile(path, nil, 0o600))
			f.until(4, 6)
			f.rename(path+".1", path+".2")
			f.rename(path, path+".1")
			f.zip(path + ".1")
			f.append(path, 7, 9)
		}},
		"compressed to a file that grows slowly": {true, func(f *fixture, path string) {
			f.append(path, 4, 6)
			for n := range 4000 { // more than what identifies a file
				require.NoError(f, appendText(path, fmt.Sprintf("nothing %d %d\n", n, n*n*7919)))
			}
			f.append(path, 7, 7)
			f.rename(path, path+".1")
			f.zip(path + ".1")
			whole, err := os.ReadFile(path + ".1.gz")
			require.NoError(f, err)
			require.NoError(f, os.WriteFile(path+".1.gz", whole[:len(whole)/2], 0o600))
			stop := f.follow(path)
			f.append(path, 8, 9)
			f.until(8, 9)
			require.NoError(f, os.WriteFile(path+".1.gz", whole, 0o600))
			f.until(7, 7)
			stop()
		}},
		"a symbolic link moves on to another file": {false, func(f *fixture, path string) {
			f.append(path, 4, 6)
			require.NoError(f, os.Remove(path)) // of no link yet: the file is open
			target := filepath.Join(f.dir, "elsewhere.log")
			f.append(target, 7, 9)
			require.NoError(f, os.Symlink(target, path))
		}},
		"the log is in UTF-16 after the rotation": {false, func(f *fixture, path string) {
			f.append(path, 4, 6)
			f.until(4, 6)
			f.rename(path, path+".1")
			text := []byte{0xff, 0xfe}
			for _, c := range []byte(lines(7, 9)) {
				text = append(text, c, 0)
			}
			require.NoError(f, os.WriteFile(path, text, 0o600))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setUp(t)
			path := filepath.Join(f.dir, "cowrie.json")
			f.append(path, 1, 3)
			stop := f.follow(path)
			f.until(1, 3)
			if c.down {
				stop()
			}
			c.rotate(f, path)
			if c.down {
				stop = f.follow(path)
			}
			f.until(1, 9)
			stop()
		})
	}
}

func appendText(path, text string) error {
	file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err = file.WriteString(text); err != nil {
		_ = file.Close() // the first error matters
		return err
	}
	return file.Close()
}

// What was read to its end is not read again when it is compressed or moved later.
func TestFollowReadsNothingTwice(t *testing.T) {
	for _, down := range []bool{false, true} {
		f := setUp(t)
		path := filepath.Join(f.dir, "cowrie.json")
		f.append(path, 1, 3)
		stop := f.follow(path)
		f.until(1, 3)
		f.rename(path, path+".1")
		f.append(path, 4, 4)
		f.until(4, 4)
		if down {
			stop()
		}
		f.forget(1, 2, 3)
		f.rename(path+".1", path+".2")
		f.zip(path + ".2")
		f.rename(path, path+".1")
		f.append(path, 5, 5)
		if down {
			stop = f.follow(path)
		}
		f.until(5, 5)
		f.append(path, 6, 6)
		f.until(6, 6)
		stop()
		require.False(t, f.has(1) || f.has(2) || f.has(3), "down: %t", down)
	}
}

// A compressed file that is damaged is reported, and what comes before and after it
// is read.
func TestFollowDamagedArchive(t *testing.T) {
	f := setUp(t)
	path := filepath.Join(f.dir, "cowrie.json")
	f.append(path, 1, 3)
	stop := f.follow(path)
	f.until(1, 3)
	stop()
	var b bytes.Buffer
	zip := gzip.NewWriter(&b)
	_, err := zip.Write([]byte(lines(1, 2000)))
	require.NoError(t, err)
	require.NoError(t, zip.Close())
	text := b.Bytes()
	copy(text[len(text)/2:], "damaged damaged damaged")
	require.NoError(t, os.WriteFile(path+".1.gz", text, 0o600))
	require.NoError(t, os.Remove(path))
	f.append(path, 5000, 5001)
	stop = f.follow(path)
	f.until(5000, 5001)
	f.logged("a file cannot be read now; trying again")
	stop()
}
