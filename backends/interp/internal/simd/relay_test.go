package simd

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

func TestRelay(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, s := range All() {
		for range 300 {
			n, channels := 1+r.IntN(40), 1+r.IntN(Block)
			step := n + r.IntN(5)
			blocks, planes := floats(r, n*Block), make([]float32, channels*step)
			s.ToPlanes(n, channels, planes, step, blocks)
			back := make([]float32, n*Block)
			s.ToBlocks(n, channels, back, planes, step)
			for i := range n {
				for c := range channels {
					if v := blocks[i*Block+c]; planes[c*step+i] != v || back[i*Block+c] != v {
						t.Fatalf("%s: %d pixels, %d channels: pixel %d of channel %d is %v, %v and %v", s.Name, n, channels, i, c, v, planes[c*step+i], back[i*Block+c])
					}
				}
			}
			for c := range channels {
				for i := n; i < step && c*step+i < len(planes); i++ {
					if planes[c*step+i] != 0 {
						t.Fatalf("%s: beyond the last of %s", s.Name, fmt.Sprint(n, " pixels"))
					}
				}
			}
		}
	}
}
