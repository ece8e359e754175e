package simd

var muxAVX2 = []func(*uint64){mux1AVX2, mux2AVX2, mux3AVX2, mux4AVX2, mux5AVX2, mux6AVX2, mux7AVX2, mux8AVX2}

var muxAVX512 = []func(*uint64){mux1AVX512, mux2AVX512, mux3AVX512, mux4AVX512, mux5AVX512, mux6AVX512, mux7AVX512, mux8AVX512}
