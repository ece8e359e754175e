package simd

// relayPixels is how many pixels the kernels below move at once.
const relayPixels = 8

// ToPlanes moves pixels, of which there are n, of up to 16 channels from a
// block to planes: channel c of pixel i from src[16·i + c] to dst[c·step + i].
func (s *Set) ToPlanes(n, channels int, dst []float32, step int, src []float32) {
	s.relay(s.toPlanes, n, func(at, pixels int) {
		for c := range channels {
			for i := at; i < at+pixels; i++ {
				dst[c*step+i] = src[i*Block+c]
			}
		}
	}, func(at, groups int) {
		for c := 0; c < channels; c += 8 {
			s.toPlanes(groups, &dst[c*step+at], &src[at*Block+c], 4*step, min(8, channels-c))
		}
	})
}

// ToBlocks is the way back. Lanes beyond the last channel may be changed.
func (s *Set) ToBlocks(n, channels int, dst, src []float32, step int) {
	s.relay(s.toBlocks, n, func(at, pixels int) {
		for c := range channels {
			for i := at; i < at+pixels; i++ {
				dst[i*Block+c] = src[c*step+i]
			}
		}
	}, func(at, groups int) {
		for c := 0; c < channels; c += 8 {
			s.toBlocks(groups, &dst[at*Block+c], &src[c*step+at], 4*step, min(8, channels-c))
		}
	})
}

// relay moves n pixels: whole groups in vectors, the last of which overlaps; few one by one.
func (s *Set) relay(kernel relayKernel, n int, few, groups func(at, count int)) {
	if kernel == nil || n < relayPixels {
		few(0, n)
		return
	}
	groups(0, n/relayPixels)
	if n%relayPixels > 0 {
		groups(n-relayPixels, 1)
	}
}

// relayKernel moves n groups of eight pixels of up to eight channels; planes are step bytes apart.
type relayKernel func(n int, dst, src *float32, step, channels int)
