package simd

var convAVX2 = [][]func(*uint64){
	{conv1x1AVX2, conv1x2AVX2, conv1x3AVX2, conv1x4AVX2, conv1x5AVX2, conv1x6AVX2},
}

var depthwiseAVX2 = []func(*uint64){
	depthwise1AVX2, depthwise2AVX2, depthwise3AVX2, depthwise4AVX2, depthwise5AVX2, depthwise6AVX2,
}

var convAVX512 = [][]func(*uint64){
	{conv1x1AVX512, conv1x2AVX512, conv1x3AVX512, conv1x4AVX512, conv1x5AVX512, conv1x6AVX512, conv1x7AVX512, conv1x8AVX512, conv1x9AVX512, conv1x10AVX512, conv1x11AVX512, conv1x12AVX512, conv1x13AVX512, conv1x14AVX512, conv1x15AVX512, conv1x16AVX512},
	{conv2x1AVX512, conv2x2AVX512, conv2x3AVX512, conv2x4AVX512, conv2x5AVX512, conv2x6AVX512, conv2x7AVX512, conv2x8AVX512, conv2x9AVX512, conv2x10AVX512, conv2x11AVX512, conv2x12AVX512, conv2x13AVX512, conv2x14AVX512},
	{conv3x1AVX512, conv3x2AVX512, conv3x3AVX512, conv3x4AVX512, conv3x5AVX512, conv3x6AVX512, conv3x7AVX512, conv3x8AVX512, conv3x9AVX512},
	{conv4x1AVX512, conv4x2AVX512, conv4x3AVX512, conv4x4AVX512, conv4x5AVX512, conv4x6AVX512, conv4x7AVX512},
}

var depthwiseAVX512 = []func(*uint64){
	depthwise1AVX512, depthwise2AVX512, depthwise3AVX512, depthwise4AVX512, depthwise5AVX512, depthwise6AVX512, depthwise7AVX512, depthwise8AVX512, depthwise9AVX512, depthwise10AVX512, depthwise11AVX512, depthwise12AVX512, depthwise13AVX512, depthwise14AVX512, depthwise15AVX512, depthwise16AVX512,
}
