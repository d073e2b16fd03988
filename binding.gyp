{
  "targets": [
    {
      "target_name": "blocksparse",
      "sources": [
        "native/addon.cc",
        "native/libstdcxx.cc",
        "native/binding/args.cc",
        "native/binding/forward_worker.cc",
        "native/binding/functions.cc",
        "native/binding/objects.cc",
        "native/cpu/isa.cc",
        "native/kernels/avx2.cc",
        "native/kernels/avx512.cc",
        "native/kernels/neon.cc",
        "native/kernels/packed_layer.cc",
        "native/kernels/packing.cc",
        "native/kernels/pattern.cc",
        "native/kernels/portable.cc",
        "native/kernels/scalar.cc",
        "native/kernels/table.cc",
        "native/threads/pool.cc"
      ],
      "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")"],
      "defines": [
        "NAPI_VERSION=8",
        "NODE_ADDON_API_CPP_EXCEPTIONS_ALL",
        "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS",
        "NODE_API_NO_EXTERNAL_BUFFERS_ALLOWED"
      ],
      "cflags!": ["-fno-exceptions"],
      "cflags_cc!": ["-fno-exceptions", "-fno-rtti", "-std=gnu++17", "-std=gnu++20"],
      "cflags_cc": ["-std=c++17", "-O3", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off", "-fno-math-errno", "-fvisibility=hidden"],
      "conditions": [
        ["OS=='linux'", { "ldflags": ["-Wl,-z,nodelete", "-Wl,--version-script=<(module_root_dir)/native/exports.map", "-s"] }],
        ["OS=='mac'", {
          "xcode_settings": {
            "GCC_ENABLE_CPP_EXCEPTIONS": "YES",
            "CLANG_CXX_LANGUAGE_STANDARD": "c++17",
            "OTHER_CPLUSPLUSFLAGS": ["-O3", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off", "-fno-math-errno", "-fvisibility=hidden"],
            "MACOSX_DEPLOYMENT_TARGET": "11.0"
          }
        }],
        ["OS=='win'", {
          "msbuild_toolset": "ClangCL",
          "msvs_settings": { "VCCLCompilerTool": { "ExceptionHandling": 1, "AdditionalOptions": ["/std:c++17", "/O2", "-ffp-contract=off"] } }
        }]
      ]
    }
  ]
}
